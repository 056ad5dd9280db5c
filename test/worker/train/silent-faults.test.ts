import assert from "node:assert/strict";
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { FleetError } from "../../../proto/errors.ts";
import { parseRecipe, type Recipe, type StageName } from "../../../proto/recipe.ts";
import { bridgeGroup } from "../../../worker/collective/bridge.ts";
import type { SharedBatches } from "../../../worker/data/loaders.ts";
import { CONTROL_WORDS, type StageJob } from "../../../worker/train/stage-job.ts";
import { tinyRecipe } from "../../support/cluster.ts";
import { formGang, type Gang } from "../collective/gang.ts";
import type { Fault } from "./faulty-engine.ts";
import type { RankThreadData, RankThreadResult } from "./rank-thread.ts";

const NO_BATCHES: SharedBatches = {
  ring: { control: new SharedArrayBuffer(0), slots: [] },
  schedule: { share: 0, batch: 0, stepsPerEpoch: 0, startStep: 0, endStep: 0, views: 2 },
  imageSize: 0,
};
const BATCH = 2;

describe("a fault that nothing else would show", function () {
  this.timeout(60_000);
  let gang: Gang;
  afterEach(() => gang.close());

  function recipeOf(workers: number, syncBatchNorm: boolean, checksumEverySteps: number): Recipe {
    const parts = tinyRecipe("unused", {});
    const stage = { workers, batchPerWorker: BATCH, checkpoint: { everySteps: 2 } };
    return parseRecipe({
      ...parts,
      model: { ...parts.model, width: 1 / 32, neck: { out: 4 } },
      data: { ...parts.data, imageSize: 8 },
      pretrain: { ...parts.pretrain, ...stage, syncBatchNorm },
      linear: { ...parts.linear, ...stage },
      collective: { bucketBytes: 20_000 },
      elastic: { checksumEverySteps },
    });
  }

  /** Runs a stage until it fails; each rank on a thread of its own, with its own peer server. */
  async function train(
    worldSize: number,
    { rank: faulty, ...fault }: Fault & { readonly rank: number },
    { stage = "pretrain" as StageName, syncBatchNorm = false, checksumEverySteps = 0 } = {},
  ): Promise<readonly RankThreadResult[]> {
    gang = await formGang(worldSize);
    const recipe = recipeOf(worldSize, syncBatchNorm, checksumEverySteps);
    const bridges = await gang.each((group) => bridgeGroup(group));
    const results = await gang.each(async (group) => {
      const { link } = bridges[group.rank]!;
      const job: StageJob = {
        experimentId: "e1",
        stage,
        generation: 1,
        rank: group.rank,
        worldSize,
        recipe,
        folder: "unused",
        logSamples: false,
        traceSteps: 0,
        group: link,
        train: NO_BATCHES,
        trainImages: 1000 * BATCH * worldSize,
        validation: undefined,
        validationImages: 0,
        monitor: undefined,
        checkpoints: undefined,
        classes: ["a", "b"],
        source: { type: "initial" },
        startStep: 0,
        backboneFrom: undefined,
        control: new Int32Array(new SharedArrayBuffer(4 * CONTROL_WORDS)),
      };
      const data: RankThreadData = {
        job: { ...job, group: link },
        fault: group.rank === faulty ? fault : undefined,
      };
      const thread = new Worker(new URL("./rank-thread.js", import.meta.url), {
        workerData: data,
        transferList: [link.port],
      });
      const [[result]] = await Promise.all([once(thread, "message"), once(thread, "exit")]);
      const { error } = result as RankThreadResult;
      if (error) group.abort(FleetError.fromPlain(error));
      return result as RankThreadResult;
    });
    for (const bridge of bridges) bridge.close();
    return results;
  }

  /** What a rank is to say of itself, by where its numbers break. */
  const nan = [
    ["convolution", {}, /embeddings are NaN/],
    ["convolution", { syncBatchNorm: true }, /activations are NaN/],
    ["convolutionBackwardWeight", {}, /the gradient of backbone\.\S+ is NaN/],
    ["linearBackwardWeight", {}, /the gradient of neck\.fc1\.weight is NaN/],
    ["contrastiveGradient", { syncBatchNorm: true }, /gradients are NaN/],
    ["softmaxCrossEntropy", { stage: "linear" }, /loss is NaN/],
    ["linearBackwardWeight", { stage: "linear" }, /the gradient of head\.fc\.weight is NaN/],
  ] as const;
  for (const [kind, options, told] of nan) {
    it(`stays on its rank: NaN in ${kind} ${JSON.stringify(options)}`, async () => {
      const fault = { rank: 1, kind, step: 2, value: Number.NaN };
      const results = await train(2, fault, options);
      for (const [rank, { step, badGiven, badTaken, error }] of results.entries()) {
        assert.equal(error?.code, rank === 1 ? "LOSS_NOT_FINITE" : "GENERATION_ABORTED");
        assert.match(error?.message ?? "", told);
        assert.match(error?.message ?? "", /rank 1: .* in step 2;/);
        assert.deepEqual({ step, badGiven, badTaken }, { step: 1, badGiven: 0, badTaken: 0 });
      }
      assert.ok(results[0]!.reduces > 0, "the first step was reduced");
    });
  }

  it("is told of as infinite, too", async () => {
    const value = Number.NEGATIVE_INFINITY;
    const results = await train(2, { rank: 0, kind: "linearBackwardWeight", step: 1, value });
    assert.match(results[0]?.error?.message ?? "", /rank 0: the gradient of \S+ is infinite/);
  });

  it("is laid to the rank whose part of the loss it spoils", async () => {
    const fault = { rank: 1, kind: "contrastiveRows", step: 2, value: Number.NaN } as const;
    for (const { error, badGiven } of await train(2, fault)) {
      assert.equal(error?.code, "LOSS_NOT_FINITE");
      assert.match(error?.message ?? "", /rank 1: loss is NaN in step 2/);
      assert.equal(badGiven, 0);
    }
  });

  for (const options of [{}, { syncBatchNorm: true }, { stage: "linear" }] as const) {
    it(`is found before a checkpoint: a bit of a weight ${JSON.stringify(options)}`, async () => {
      const results = await train(3, { rank: 2, kind: "bit", step: 3, value: 0 }, options);
      for (const { step, saved, error } of results) {
        assert.equal(error?.code, "REPLICAS_DIVERGED");
        assert.match(error?.message ?? "", /^rank 2 holds other .* ranks 0, 1 after step 4;/);
        assert.equal(step, 4);
        assert.deepEqual(saved, [2]);
      }
    });
  }

  it("is found at the recipe's interval, and laid to all where there is no majority", async () => {
    const fault = { rank: 0, kind: "bit", step: 3, value: 0 } as const;
    for (const { step, saved, error } of await train(2, fault, { checksumEverySteps: 3 })) {
      assert.match(error?.message ?? "", /^ranks 0, 1 hold other weights .* another after step 3;/);
      assert.equal(step, 3);
      assert.deepEqual(saved, [2]);
    }
  });
});
