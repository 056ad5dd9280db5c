import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { stringify } from "yaml";
import type { TensorArray } from "../../worker/checkpoint/safetensors.ts";
import {
  type Cluster,
  readScalars,
  readWeights,
  startCluster,
  tinyRecipe,
  untilExperiment,
  writeImages,
} from "../support/cluster.ts";
import { tempDir } from "../support/processes.ts";

describe("the same recipe on 1 worker x 8 and on 4 workers x 2", function () {
  this.timeout(180_000);
  let cluster: Cluster;
  let remove: () => Promise<void>;
  let dir: string;

  before(async () => {
    const temporary = await tempDir();
    ({ dir, remove } = temporary);
    await writeImages(path.join(dir, "data"), { train: 16, val: 2 });
    cluster = await startCluster(dir);
    await cluster.addWorkers(4);
  });
  after(async () => {
    await cluster?.close();
    await remove?.();
  });

  async function run(workers: number, batchPerWorker: number): Promise<string> {
    const recipe = tinyRecipe(path.join(dir, "data"), {
      stages: ["pretrain"],
      pretrain: {
        workers,
        batchPerWorker,
        epochs: 2,
        syncBatchNorm: true,
        gradientScale: "exact",
        optimizer: { type: "lars", lr: 0.01 },
      },
    });
    const file = path.join(dir, `on-${workers}.yaml`);
    await writeFile(file, stringify(recipe));
    const { id } = await cluster.json<{ id: string }>("submit", file);
    await untilExperiment(cluster, id, ({ state }) => state === "succeeded", 120_000);
    return id;
  }

  it("has the same losses and weights to 1e-4 after several steps", async () => {
    const [alone, gang] = [await run(1, 8), await run(4, 2)];

    const lossesAlone = readScalars(cluster, alone, "pretrain");
    const lossesGang = readScalars(cluster, gang, "pretrain");
    assert.equal(lossesAlone.length, 8);
    for (const [k, { loss }] of lossesAlone.entries()) {
      const other = lossesGang[k]?.loss ?? Number.NaN;
      const error = Math.abs(other - loss!) / loss!;
      assert.ok(error < 1e-4, `step ${k + 1}: loss ${loss} alone, ${other} in the gang`);
    }
    assert.notEqual(lossesAlone[0]?.loss, lossesAlone[7]?.loss, "training moves the loss");

    const weights = readWeights(cluster, gang, "pretrain");
    for (const [name, expected] of readWeights(cluster, alone, "pretrain")) {
      const error = worstError(name, expected, weights.get(name));
      assert.ok(error < 1e-4, `${name} differs by ${error}`);
    }
  });
});

/**
 * Largest difference, in units of the tensor's largest value. Biases and running means start at
 * zero and live on the scale of normalised activations, which is 1.
 */
function worstError(name: string, expected: TensorArray, actual: TensorArray | undefined): number {
  assert.equal(actual?.length, expected.length, name);
  const values = Array.from(expected, Number);
  const startsAtZero = /\.(bias|running_mean)$/.test(name);
  const scale = Math.max(...values.map(Math.abs), startsAtZero ? 1 : 0);
  const difference = values.map((value, k) => Math.abs(Number(actual?.[k]) - value));
  return Math.max(...difference) / scale;
}
