import assert from "node:assert/strict";
import path from "node:path";
import { readWeights } from "../../worker/checkpoint/read-weights.ts";
import { tinyRecipe, untilExperiment, useCluster } from "../support/cluster.ts";

describe("a linear evaluation whose recipe names a file of PyTorch", function () {
  this.timeout(120_000);
  const suite = useCluster({ images: { train: 8, val: 2 }, workers: 1 });

  it("trains a classifier on the backbone in it, and says what it took", async () => {
    const { cluster } = suite;
    const file = path.resolve("test/fixtures/checkpoint/training.pth");
    const { model, data, linear } = tinyRecipe(suite.data, {});
    const id = await suite.submit(
      tinyRecipe(suite.data, {
        stages: ["linear"],
        model: { ...model, width: 1 / 32, stem: "imagenet" },
        data: { ...data, imageSize: 32 },
        linear: { ...linear, init: file, validation: { resizeEdge: 32, batchPerWorker: 4 } },
      }),
    );
    await untilExperiment(cluster, id, ({ state }) => state === "succeeded", 60_000);

    assert.match(
      cluster.workers[0]!.stderr(),
      /backbone of .*training\.pth: 100 tensors match, 10 unexpected \(neck\.fc0\.weight,/,
    );
    const store = path.join(cluster.workDir, id, "linear", "checkpoints");
    const written = readWeights(path.join(store, "step-000000002"));
    const { tensors, classes, batchesTracked, model: kept, imageInput } = written;
    assert.deepEqual([kept?.width, kept?.stem, imageInput?.resizeEdge], [1 / 32, "imagenet", 32]);
    assert.deepEqual(classes, ["class0", "class1"]);
    assert.equal(batchesTracked, 313);
    for (const [name, tensor] of readWeights(file).tensors) {
      if (name.startsWith("backbone.")) assert.deepEqual(tensors.get(name), tensor, name);
    }
  });
});
