import assert from "node:assert/strict";
import { drawChart } from "../../../proto/charts/draw-chart.ts";
import { smooth } from "../../../proto/charts/smooth.ts";
import { stepTimes } from "../../../worker/look/step-times.ts";
import {
  curvesChart,
  keysOf,
  pointsOf,
  type Run,
  usualKeys,
} from "../../../worker/look/training-curves.ts";

const run: Run = {
  legend: "a run",
  rows: [
    { step: 1, epoch: 0.5, loss: 3, lr: 0.1, step_s: 4, images_per_s: 2 },
    { step: 2, epoch: 1, loss: 2, lr: 0.1, step_s: 1, images_per_s: 8 },
    { step: 2, epoch: 1, "accuracy/top1": 40 },
    { step: 3, epoch: 1.5, loss: 1, lr: 0.2, step_s: 1, images_per_s: 8 },
  ],
};

describe("training curves", () => {
  it("are of loss, accuracies and rate unless told otherwise", () => {
    const known = keysOf([run]);
    assert.deepEqual(usualKeys(known), ["loss", "accuracy/top1", "lr"]);
    assert.deepEqual(usualKeys(["knn/top1_k20", "probe/batch_top1", "probe/top1", "loss"]), [
      "loss",
      "knn/top1_k20",
      "probe/top1",
    ]);
  });

  it("take from each line what it has", () => {
    assert.deepEqual(pointsOf(run, "loss", "step"), [
      [1, 3],
      [2, 2],
      [3, 1],
    ]);
    assert.deepEqual(pointsOf(run, "accuracy/top1", "epoch"), [[1, 40]]);
  });

  it("have a panel per figure and a name per run", () => {
    const other = { ...run, legend: "another run" };
    const keys = ["loss", "accuracy/top1"];
    const chart = curvesChart([run, other], { keys, across: "epoch", smoothing: undefined });
    const svg = drawChart(chart);
    for (const text of ["2 runs", "a run", "another run", "loss", "accuracy/top1", "epoch"]) {
      assert.ok(svg.includes(text), text);
    }
  });

  it("are smoothed by the mean of as many neighbours as there are on both sides", () => {
    const points = [0, 3, 0, 9, 0].map((y, x) => [x, y] as const);
    assert.deepEqual(
      smooth(points, 1).map(([, y]) => y),
      [0, 1, 4, 3, 0],
    );
    assert.deepEqual(smooth(points, 9)[2], [2, 12 / 5]);
  });
});

describe("the times of a run's steps", () => {
  it("are told by step, by epoch and as a rate", () => {
    assert.deepEqual(stepTimes(run.rows), {
      steps: 3,
      stepSeconds: { mean: 2, median: 1, min: 1, max: 4 },
      slowestEpoch: { epoch: 1, meanStepSeconds: 2.5 },
      fastestEpoch: { epoch: 2, meanStepSeconds: 1 },
      imagesPerSecond: 4,
    });
    const even = [...run.rows, { step: 4, epoch: 2, step_s: 2 }];
    assert.equal(stepTimes(even)?.stepSeconds.median, 1.5);
  });

  it("are unknown without any timed step", () => {
    assert.equal(stepTimes([{ step: 1, epoch: 1, loss: 1 }]), undefined);
  });
});
