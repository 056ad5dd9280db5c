import assert from "node:assert/strict";
import {
  readScalars,
  readWeights,
  tinyRecipe,
  untilExperiment,
  useCluster,
} from "../support/cluster.ts";

describe("a run that is stopped in the middle of an epoch", function () {
  this.timeout(240_000);
  // One epoch only: wherever it is stopped is the middle of it.
  const suite = useCluster({ images: { train: 120, val: 2 }, workers: 2 });

  const isAt = (wanted: string) => (experiment: { readonly state: string }) =>
    experiment.state === wanted;

  it("has bit-identical losses and weights after it is taken up again", async () => {
    const { cluster } = suite;
    const recipe = tinyRecipe(suite.data, {
      stages: ["pretrain"],
      pretrain: {
        workers: 2,
        batchPerWorker: 2,
        epochs: 1,
        optimizer: { type: "lars", lr: 0.3 },
      },
    });
    const whole = await suite.submit(recipe);
    await untilExperiment(cluster, whole, isAt("succeeded"), 100_000);

    const id = await suite.submit(recipe);
    await untilExperiment(cluster, id, ({ progress }) => (progress?.step ?? 0) > 0, 60_000);
    await cluster.json("cancel", id);
    await untilExperiment(cluster, id, isAt("cancelled"), 30_000);
    const stoppedAt = readScalars(cluster, id, "pretrain").length;
    assert.ok(stoppedAt > 0 && stoppedAt < 60, `it was stopped after ${stoppedAt} of 60 steps`);

    await cluster.json("retry", id);
    await untilExperiment(cluster, id, isAt("succeeded"), 100_000);

    const facts = (experiment: string) =>
      readScalars(cluster, experiment, "pretrain").map((row) => ({
        step: row.step,
        loss: row.loss,
        lr: row.lr,
        probe: row["probe/batch_loss"],
      }));
    assert.equal(facts(id).length, 60);
    assert.deepEqual(facts(id), facts(whole));
    assert.ok(facts(id).every(({ probe }) => probe! > 0));
    for (const file of ["model", "probe"]) {
      const weights = (experiment: string) => readWeights(cluster, experiment, "pretrain", file);
      assert.ok(weights(id).size > 0);
      assert.deepEqual(weights(id), weights(whole), `${file}.safetensors`);
    }
  });
});
