import assert from "node:assert/strict";
import {
  boundWarning,
  formatBar,
  formatProgress,
  formatState,
  formatStraggler,
} from "../../coordinator/cli/progress-line.ts";
import type { ExperimentView, ProgressView } from "../../coordinator/control/experiment-view.ts";
import { formatCount, formatDuration, formatFigure, formatTable } from "../../proto/cli/format.ts";

const view: ExperimentView = {
  id: "demo-1",
  name: "demo",
  recipe: "demo",
  priority: 0,
  state: "running",
  stage: "linear",
  generation: 4,
  reason: "",
  restarts: 0,
  failures: 0,
  preemptions: 0,
  membershipChanges: 0,
  stragglers: [],
  submittedUnixMs: 0,
  workers: ["w0"],
  ranks: 1,
  results: {},
};
const progress: ProgressView = {
  stage: "linear",
  step: 50,
  stepsTotal: 200,
  epoch: 2.5,
  epochsTotal: 10,
  loss: 1.23456,
  lr: 0.0001,
  imagesPerSecond: 1234.5,
  etaSeconds: 3725,
  top1: 61.254,
  top5: 90,
  skippedImages: 12_345,
  checkpointStep: undefined,
  allReduceSeconds: undefined,
  allReduceHidden: undefined,
  lossBound: undefined,
  lossAtBound: undefined,
  knn: [],
  probeTop1: undefined,
  probeTop5: undefined,
  storageProblem: undefined,
  checkpointFailures: 0,
  trainingSeconds: undefined,
};

describe("progress bar", () => {
  it("shows how far a stage is, and its figures", () => {
    assert.equal(
      formatBar(view, progress, 200),
      "linear [########----------------------]  25%  epoch 2.50/10  step 50/200  " +
        "loss 1.235  top-1 61.25 %  ETA 1h02m  1235 images/s  lr 1.000e-4  " +
        "top-5 90.00 %  12,345 images skipped",
    );
  });

  it("leaves out what does not fit, the least important first", () => {
    assert.equal(
      formatBar(view, progress, 80),
      "linear [###-------]  25%  epoch 2.50/10  step 50/200  loss 1.235  top-1 61.25 %",
    );
  });

  for (const columns of [20, 40, 60, 80, 100, 120, 160]) {
    it(`never wraps in ${columns} columns`, () => {
      assert.ok(formatBar(view, progress, columns).length < columns);
    });
  }

  it("is full at the end, and no fuller", () => {
    assert.match(formatBar(view, { ...progress, step: 250 }, 80), /\[#+\] 100%/);
    assert.match(formatBar(view, { ...progress, step: 0, stepsTotal: 0 }, 80), /\[-+\] {3}0%/);
  });

  it("says so when the gang is stopping", () => {
    assert.match(formatBar({ ...view, state: "stopping" }, progress, 200), / stopping$/);
  });
});

describe("log line", () => {
  it("names experiment, stage and figures", () => {
    const { top1: _, top5: __, ...pretrain } = progress;
    assert.equal(
      formatProgress(view, { ...pretrain, top1: undefined, top5: undefined, skippedImages: 0 }),
      "demo-1 linear epoch 2.50/10  step 50/200  loss 1.235  ETA 1h02m  1235 images/s  lr 1.000e-4",
    );
  });

  it("says how much of a gang's all-reduce was hidden", () => {
    const line = formatProgress(view, {
      ...progress,
      allReduceSeconds: 0.4123,
      allReduceHidden: 0.834,
    });
    assert.match(line, / {2}all-reduce 0\.41 s, 83 % hidden {2}12,345 images skipped$/);
  });

  it("gives the accuracies of the features, one of them before the others", () => {
    const knn = [
      { neighbours: 20, top1: 45.254, top5: 90 },
      { neighbours: 200, top1: 43, top5: 88 },
    ];
    const line = formatProgress(view, { ...progress, top1: undefined, knn, probeTop1: 47.5 });
    assert.match(line, / {2}loss 1\.235 {2}20-NN 45\.25 % {2}ETA /);
    assert.match(line, / {2}lr 1\.000e-4 {2}probe 47\.50 % {2}200-NN 43\.00 % {2}/);
  });

  it("marks a loss that sits at its bound, and says what that means", () => {
    const stuck = { ...progress, loss: 6.23, lossBound: 6.2364, lossAtBound: true };
    assert.match(formatProgress(view, stuck), / {2}loss 6\.230 NEAR ITS BOUND {2}/);
    assert.match(boundWarning(stuck) ?? "", /ln\(2N - 1\) = 6\.236, where all pairs look alike/);
    assert.equal(boundWarning({ ...stuck, lossAtBound: false }), undefined);
    assert.equal(boundWarning(progress), undefined);
  });

  it("gives a state its reason", () => {
    const waiting = { ...view, state: "waiting", reason: "waits for 2 workers" } as const;
    assert.equal(
      formatState(waiting),
      "demo-1 waiting (linear, generation 4): waits for 2 workers",
    );
    assert.equal(formatState(view), "demo-1 running (linear, generation 4)");
  });
});

describe("figure", () => {
  it("has units of time that suit it", () => {
    const durations = [0, 59.6, 725, 11_220, 187_200].map(formatDuration);
    assert.deepEqual(durations, ["0s", "1m00s", "12m05s", "3h07m", "2d04h"]);
  });

  it("has four digits", () => {
    const values = [0, 4.8, 0.000328068, 27_968_832, 1_500, 0.001].map(formatFigure);
    assert.deepEqual(values, ["0", "4.800", "3.281e-4", "2.797e+7", "1500", "0.001000"]);
  });

  it("has its thousands apart", () => {
    assert.deepEqual([999, 1_000, 27_968_832].map(formatCount), ["999", "1,000", "27,968,832"]);
  });

  it("stands in a column", () => {
    assert.equal(formatTable(["A", "LONG"], [["one", "1"]]), "A    LONG\none  1\n");
  });
});

describe("straggler", () => {
  it("is named with its rank, its worker and what its time goes to", () => {
    const slow = { rank: 3, workerId: "9f", workerName: "node-3", ratio: 2.44, phase: "data" };
    assert.equal(formatStraggler(slow), "rank 3 (node-3) takes 2.4 x as long as the others: data");
  });
});
