import assert from "node:assert/strict";
import { parseRecipe, type Recipe } from "../../../proto/recipe.ts";
import {
  firstTask,
  imagesAt,
  indicesOf,
  type LoadPlan,
  scheduleOf,
  taskAt,
} from "../../../worker/data/load-plan.ts";
import { epochIndices } from "../../../worker/data/sampler.ts";
import { trainPlan } from "../../../worker/session/load-plans.ts";
import { tinyRecipe } from "../../support/cluster.ts";

const RANKS = 4;
const BATCH = 3;
/** Shares of 8: an epoch is 3 + 3 + 2 images of each rank. */
const IMAGES = 29;
const EPOCHS = 2;

describe("a training plan of fewer workers than ranks", () => {
  const recipeWith = (dropLast: boolean): Recipe => {
    const { pretrain, ...rest } = tinyRecipe("data", {});
    const stage = { workers: RANKS, batchPerWorker: BATCH, epochs: EPOCHS, dropLast };
    return parseRecipe({ ...rest, pretrain: { ...pretrain, ...stage } });
  };

  for (const dropLast of [false, true]) {
    const recipe = recipeWith(dropLast);
    const plan = (rank: number, worldSize: number, startStep = 0): LoadPlan =>
      trainPlan(recipe, "pretrain", { rank, worldSize, startStep });

    for (const workers of [4, 2, 1]) {
      it(`loads every rank's batches on ${workers} workers, dropLast ${dropLast}`, () => {
        const plans = Array.from({ length: workers }, (_, rank) => plan(rank, workers));
        const expected = stepsOfSampler(dropLast);
        assert.deepEqual(
          expected.map((_, step) => plans.flatMap((each) => batchOf(each, step))),
          expected,
        );
        assert.ok(plans.every((each) => scheduleOf(each, IMAGES).endStep === expected.length));
      });
    }

    it(`counts tasks through both ways, dropLast ${dropLast}`, () => {
      const schedule = scheduleOf(plan(1, 2, 4), IMAGES);
      assert.equal(schedule.startStep, 4);
      for (let step = 0; step < schedule.endStep; step++) {
        const begin = firstTask(schedule, step);
        for (let row = 0; row < imagesAt(schedule, step); row++) {
          const task = taskAt(schedule, begin + row);
          assert.deepEqual([task?.step, task?.row], [step, row]);
        }
      }
      assert.equal(taskAt(schedule, firstTask(schedule, schedule.endStep)), undefined);
    });
  }

  it("is refused for workers that cannot share the ranks evenly", () => {
    assert.throws(
      () => trainPlan(recipeWith(false), "pretrain", { rank: 0, worldSize: 3, startStep: 0 }),
      { code: "USAGE", message: /pretrain stage of tiny has 4 ranks, which 3 workers cannot/ },
    );
  });
});

/** Images of the plan in a step, in the order of its rows. */
function batchOf(plan: LoadPlan, step: number): number[] {
  const schedule = scheduleOf(plan, IMAGES);
  const begin = firstTask(schedule, step);
  return Array.from({ length: imagesAt(schedule, step) }, (_, row) => {
    const { epoch, position } = taskAt(schedule, begin + row)!;
    return indicesOf(plan, IMAGES, epoch)[position]!;
  });
}

/** The global batch of each step, rank by rank: what as many workers as ranks load. */
function stepsOfSampler(dropLast: boolean): number[][] {
  const ranks = Array.from({ length: RANKS }, (_, rank) => rank);
  const steps: number[][] = [];
  for (let epoch = 0; epoch < EPOCHS; epoch++) {
    const common = { count: IMAGES, seed: 0, epoch, worldSize: RANKS, batchPerWorker: BATCH };
    const shares = ranks.map((rank) => [...epochIndices({ ...common, rank, ranks: 1 })]);
    for (let begin = 0; begin < shares[0]!.length; begin += BATCH) {
      const batch = shares.flatMap((share) => share.slice(begin, begin + BATCH));
      if (!dropLast || batch.length === RANKS * BATCH) steps.push(batch);
    }
  }
  return steps;
}
