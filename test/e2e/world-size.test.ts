import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import type { RecipeInput } from "../../proto/recipe.ts";
import {
  type Cluster,
  readScalars,
  readWeights,
  tinyRecipe,
  untilExperiment,
  useCluster,
} from "../support/cluster.ts";
import { worstError } from "../support/worst-error.ts";

describe("the same recipe on 1 worker x 8 and on 4 workers x 2", function () {
  this.timeout(180_000);
  const suite = useCluster({ images: { train: 16, val: 2 }, workers: 4 });

  async function run(
    workers: number,
    batchPerWorker: number,
    monitor: NonNullable<RecipeInput["pretrain"]["monitor"]> = { everyEpochs: 1 },
  ): Promise<string> {
    const recipe = tinyRecipe(suite.data, {
      stages: ["pretrain"],
      pretrain: {
        workers,
        batchPerWorker,
        epochs: 2,
        syncBatchNorm: true,
        gradientScale: "exact",
        optimizer: { type: "lars", lr: 0.01 },
        monitor,
      },
    });
    const id = await suite.submit(recipe);
    await untilExperiment(suite.cluster, id, ({ state }) => state === "succeeded", 120_000);
    return id;
  }

  it("has the same losses and weights to 1e-4 after several steps", async () => {
    const [alone, gang] = [await run(1, 8), await run(4, 2)];

    const lossesAlone = readScalars(suite.cluster, alone, "pretrain");
    const lossesGang = readScalars(suite.cluster, gang, "pretrain");
    assert.equal(lossesAlone.length, 8);
    for (const [k, { loss }] of lossesAlone.entries()) {
      const other = lossesGang[k]?.loss ?? Number.NaN;
      const error = Math.abs(other - loss!) / loss!;
      assert.ok(error < 1e-4, `step ${k + 1}: loss ${loss} alone, ${other} in the gang`);
    }
    assert.notEqual(lossesAlone[0]?.loss, lossesAlone[7]?.loss, "training moves the loss");
    for (const { step, all_reduce_s: seconds, all_reduce_hidden: hidden } of lossesGang) {
      assert.ok(seconds! > 0, `step ${step}: all-reduces took ${seconds} s`);
      assert.ok(hidden! >= 0 && hidden! <= 1, `step ${step}: ${hidden} of them is hidden`);
    }
    assert.ok(lossesAlone.every((row) => row.all_reduce_s === undefined));

    const [knnAlone, knnGang] = [alone, gang].map((id) =>
      readEvaluations(suite.cluster, id).map((row) => [row["step"], row["knn/top1_k20"]]),
    );
    assert.deepEqual(knnGang, knnAlone);

    const weights = readWeights(suite.cluster, gang, "pretrain");
    for (const [name, expected] of readWeights(suite.cluster, alone, "pretrain")) {
      const error = worstError(name, expected, weights.get(name));
      assert.ok(error < 1e-4, `${name} differs by ${error}`);
    }
  });

  it("has the same bits whether its features are looked at or not", async () => {
    const off = { enabled: false };
    const [seen, unseen] = [await run(4, 2), await run(4, 2, { knn: off, probe: off })];
    const losses = (id: string) =>
      readScalars(suite.cluster, id, "pretrain").map(({ step, loss, lr }) => [step, loss, lr]);
    assert.deepEqual(losses(seen), losses(unseen));
    const weights = (id: string) => readWeights(suite.cluster, id, "pretrain");
    assert.deepEqual(weights(seen), weights(unseen));

    assert.deepEqual(readEvaluations(suite.cluster, unseen), []);
    assert.deepEqual(
      readEvaluations(suite.cluster, seen).map((row) => [row["epoch"], row["validation_images"]]),
      [
        [1, 4],
        [2, 4],
      ],
    );
  });
});

describe("a recipe of 4 ranks on 4, 2 and 1 workers", function () {
  this.timeout(180_000);
  const suite = useCluster({ images: { train: 16, val: 2 }, workers: 4 });
  const STAGES = ["pretrain", "linear"] as const;

  /** Shares of 8 images: an epoch has 3, 3 and 2 of each rank. */
  function submit(workers: number): Promise<string> {
    const base = tinyRecipe(suite.data, {});
    const stage = { workers: 4, batchPerWorker: 3, epochs: 2 };
    const optimizer = { type: "lars", lr: 0.01 } as const;
    return suite.submit({
      ...base,
      pretrain: { ...base.pretrain, ...stage, optimizer, syncBatchNorm: false },
      linear: { ...base.linear, ...stage },
      elastic: { minWorkers: workers, maxWorkers: workers },
    });
  }

  it("has the same losses and weights to 1e-4, in both stages", async () => {
    const runs = await Promise.all(
      [4, 2, 1].map(async (workers) => ({ workers, id: await submit(workers) })),
    );
    for (const { id } of runs) {
      await untilExperiment(suite.cluster, id, ({ state }) => state === "succeeded", 120_000);
    }
    const full = runs[0]!.id;
    for (const stage of STAGES) {
      const expected = readScalars(suite.cluster, full, stage);
      assert.equal(expected.length, 6);
      for (const { workers, id } of runs) {
        const result = readFileSync(path.join(suite.cluster.workDir, id, stage, "result.json"));
        const { world_size: size, ranks } = JSON.parse(String(result)) as Record<string, number>;
        assert.deepEqual({ size, ranks }, { size: workers, ranks: 4 });
        const rows = readScalars(suite.cluster, id, stage);
        for (const [k, { step, loss }] of expected.entries()) {
          const error = Math.abs((rows[k]?.loss ?? Number.NaN) - loss!) / loss!;
          assert.ok(error < 1e-4, `${stage} step ${step} on ${workers}: off by ${error}`);
        }
        const weights = readWeights(suite.cluster, id, stage);
        for (const [name, tensor] of readWeights(suite.cluster, full, stage)) {
          const error = worstError(name, tensor, weights.get(name));
          assert.ok(error < 1e-4, `${name} on ${workers} workers differs by ${error}`);
        }
      }
    }
  });
});

/** The evaluations of a stage, without the time they took. */
function readEvaluations(cluster: Cluster, id: string): Record<string, unknown>[] {
  const text = readFileSync(path.join(cluster.workDir, id, "pretrain", "scalars.jsonl"), "utf8");
  const rows = text.split("\n").filter((line) => line.includes("monitor_seconds"));
  return rows.map((line) => ({ ...JSON.parse(line), monitor_seconds: undefined }));
}
