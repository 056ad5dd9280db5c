import assert from "node:assert/strict";
import { parseRecipe } from "../../../proto/recipe.ts";
import type { ProcessGroup } from "../../../worker/collective/process-group.ts";
import { soloGroup } from "../../../worker/collective/process-group.ts";
import type { Batch } from "../../../worker/data/batch-reader.ts";
import { indicesOf, type ValidationPlan } from "../../../worker/data/load-plan.ts";
import { runLockStep } from "../../../worker/golden/lock-step-group.ts";
import { monitorPlan } from "../../../worker/session/load-plans.ts";
import { type Judged, judgeFeatures } from "../../../worker/train/feature-judge.ts";
import type { StageJob } from "../../../worker/train/stage-job.ts";
import { tinyRecipe } from "../../support/cluster.ts";
import { Prng } from "../../support/prng.ts";
import { ReferenceEngine } from "../../support/reference-engine.ts";

const CLASSES = 3;
const COUNTS = { train: 50, val: 23 };
/** Image 4 of each split cannot be read. */
const UNREADABLE = 4;

const parts = tinyRecipe("unused", {});
const recipe = parseRecipe({
  ...parts,
  pretrain: { ...parts.pretrain, monitor: { knn: { neighbours: [5, 200], trainImages: 40 } } },
});

/** Pixels of an image: its class shows in one channel, through noise. */
function pixelsOf(index: number, label: number): Uint8Array {
  const prng = new Prng(index);
  const plane = recipe.data.imageSize ** 2;
  const bright = Array.from({ length: 3 }, (_, c) => prng.int(0, 150) + (c === label ? 60 : 0));
  return Uint8Array.from({ length: 3 * plane }, (_, at) => bright[Math.floor(at / plane)]!);
}

/** The batches that loaders would give for the plan. */
function* batchesOf(plan: ValidationPlan, count: number): Generator<Batch> {
  const share = indicesOf(plan, count, 0);
  for (let begin = 0; begin < share.length; begin += plan.batchPerWorker) {
    const own = [...share.slice(begin, begin + plan.batchPerWorker)];
    const indices = own.filter((index) => index !== UNREADABLE);
    const bytes = indices.flatMap((index) => [...pixelsOf(index, index % CLASSES)]);
    const pixels = new Uint8Array(new SharedArrayBuffer(bytes.length));
    pixels.set(bytes);
    yield {
      pixels,
      labels: sharedInts(indices.map((index) => index % CLASSES)),
      indices: sharedInts(indices),
      count: indices.length,
      views: 1,
      step: begin / plan.batchPerWorker,
      epoch: 0,
      isLastOfEpoch: false,
    };
  }
}

function sharedInts(values: readonly number[]): Int32Array<SharedArrayBuffer> {
  const ints = new Int32Array(new SharedArrayBuffer(4 * values.length));
  ints.set(values);
  return ints;
}

function judge(group: ProcessGroup, images = COUNTS) {
  const engine = new ReferenceEngine();
  const { rank, worldSize } = group;
  const place = { rank, worldSize, startStep: 0 };
  const { knn, valImages } = recipe.pretrain.monitor;
  const splits = {
    train: { plan: monitorPlan(recipe, place, knn.trainImages), count: images.train },
    val: { plan: monitorPlan(recipe, place, valImages), count: images.val },
  };
  const passOver: Judged["passOver"] = (split, visit) => {
    const { plan, count } = splits[split];
    const batches = [...batchesOf(plan, count)];
    const longest = [...batchesOf({ ...plan, rank: 0 }, count)].length;
    for (let step = 0; step < longest; step++) visit(batches[step], step);
  };
  const control = new Int32Array(new SharedArrayBuffer(8));
  return judgeFeatures({
    engine,
    context: { job: { recipe, control } as StageJob, group },
    monitor: { classes: CLASSES, splits },
    passOver,
    model: { features: 3, openEval: () => (x) => engine.globalAveragePool(x) },
    probe: {
      logits: (features) => {
        const identity = Float32Array.of(1, 0, 0, 0, 1, 0, 0, 0, 1);
        return engine.linear(features, engine.upload(identity, [3, 3]));
      },
    },
  });
}

describe("judging features", () => {
  const alone = judge(soloGroup);

  it("counts every readable validation image once", () => {
    const images = [...alone.knn, alone.probe].map((accuracy) => accuracy?.images);
    assert.deepEqual(images, [22, 22, 22]);
  });

  it("tells the classes apart by neighbours and by the probe", () => {
    assert.deepEqual(
      alone.knn.map(({ neighbours }) => neighbours),
      [5, 200],
    );
    for (const { top1, top5 } of [...alone.knn, alone.probe!]) {
      assert.ok(top1 > 45 && top1 < 100, `top-1 is ${top1} %, guessing gives 33 %`);
      assert.equal(top5, 100, "there are 3 classes");
    }
  });

  for (const worldSize of [2, 3, 5]) {
    it(`gives ${worldSize} workers the figures of one, some without a last batch`, () => {
      const gang = runLockStep(worldSize, judge);
      assert.deepEqual(gang, Array(worldSize).fill(alone));
    });
  }

  it("works where there are fewer images than workers", () => {
    const few = { train: 2, val: 1 };
    const gang = runLockStep(3, (group) => judge(group, few));
    assert.deepEqual(gang[2], judge(soloGroup, few));
    assert.equal(gang[0]?.knn[0]?.images, 1);
  });
});
