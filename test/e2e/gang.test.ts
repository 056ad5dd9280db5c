import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { readScalars, tinyRecipe, untilExperiment, useCluster } from "../support/cluster.ts";

describe("an experiment for 16 workers, then 8", function () {
  this.timeout(300_000);
  const suite = useCluster({ images: { train: 32, val: 9 }, workers: 15 });

  it("waits for its whole gang, pre-trains on it, and is evaluated on half of it", async () => {
    const { cluster } = suite;
    const base = tinyRecipe(suite.data, {});
    const recipe = {
      ...base,
      pretrain: { ...base.pretrain, workers: 16, batchPerWorker: 2, epochs: 2 },
      linear: { ...base.linear, workers: 8, batchPerWorker: 4, epochs: 2 },
    };
    const id = await suite.submit(recipe);

    const waiting = await untilExperiment(cluster, id, ({ reason }) => reason !== "", 30_000);
    assert.equal(waiting.state, "waiting");
    assert.match(waiting.reason, /16 workers.*15/);

    await cluster.addWorkers(1);
    await untilExperiment(cluster, id, ({ state }) => state === "succeeded", 240_000);

    const losses = readScalars(cluster, id, "pretrain");
    assert.equal(losses.length, 4, "64 images in 2 steps an epoch of 16 x 2");
    assert.ok(losses.every(({ loss }) => Number.isFinite(loss)));
    const readJson = (name: string) =>
      JSON.parse(readFileSync(path.join(cluster.workDir, id, "linear", name), "utf8"));
    const result = readJson("result.json");
    assert.equal(result.world_size, 8);
    assert.equal(result.validation_images, 18, "every validation image is counted once");
    assert.ok(result.top1 >= 0 && result.top1 <= 100);
    const confusion = readJson("confusion.json");
    assert.equal(confusion.validation_images, 18);
    assert.equal(confusion.top1, Number(result.top1.toFixed(4)));
    assert.ok(existsSync(path.join(cluster.workDir, id, "linear", "confusion.png")));

    const workers = await cluster.json<{ state: string }[]>("workers");
    assert.deepEqual(
      workers.map(({ state }) => state),
      Array(16).fill("idle"),
    );
  });
});
