import assert from "node:assert/strict";
import type { Progress } from "../../../proto/gen/coordinator.ts";
import { ProgressReporter } from "../../../worker/session/progress-reporter.ts";
import type { StepReport } from "../../../worker/train/stage-job.ts";

describe("ProgressReporter", () => {
  const stage = {
    experimentId: "e1",
    stage: "STAGE_PRETRAIN",
    generation: 3,
    worldSize: 4,
  } as const;
  const stepAt = (step: number, epochEnded = false): StepReport => ({
    step,
    stepsTotal: 100,
    epoch: step / 10,
    epochsTotal: 10,
    epochEnded,
    loss: 5,
    lr: 0.1,
    images: 8,
    stepSeconds: 0.5,
    waitSeconds: 0.2,
    phaseSeconds: { data: 0, forward: 0, loss: 0, backward: 0, reduce: 0, update: 0 },
    syncNormSeconds: undefined,
    allReduce: undefined,
  });
  const open = () => {
    const sent: Progress[] = [];
    return { sent, reporter: new ProgressReporter(stage, (progress) => sent.push(progress)) };
  };

  it("reports at most twice a second, and always at the end of an epoch", () => {
    const { sent, reporter } = open();
    for (let step = 1; step <= 9; step++) reporter.step(stepAt(step), step * 100);
    reporter.step(stepAt(10, true), 1_000);
    assert.deepEqual(
      sent.map(({ step }) => step),
      [1, 6, 10],
    );
  });

  it("counts the images of the whole gang, and the time that is left", () => {
    const { sent, reporter } = open();
    reporter.step(stepAt(20), 0);
    assert.equal(sent[0]?.imagesPerSecond, (8 * 4) / 0.5);
    assert.equal(sent[0]?.etaSeconds, 80 * 0.5);
    assert.equal(sent[0]?.generation, 3);
  });

  it("carries accuracy, checkpoint and skipped images", () => {
    const { sent, reporter } = open();
    reporter.step(stepAt(1), 0);
    reporter.skippedImage();
    reporter.checkpoint(1, 1);
    reporter.validated({ top1: 50, top5: 90 }, 2);
    const last = sent.at(-1);
    assert.deepEqual(
      [last?.top1, last?.top5, last?.skippedImages, last?.checkpointStep],
      [50, 90, 1, 1],
    );
  });

  it("carries the latest accuracies of the features, and where the loss's bound is", () => {
    const { sent, reporter } = open();
    const of = (top1: number) => ({ top1, top5: 90, images: 8 });
    reporter.step({ ...stepAt(1), bound: { value: 4.1, isReached: true } }, 0);
    assert.deepEqual([sent[0]?.lossBound, sent[0]?.lossAtBound, sent[0]?.knn], [4.1, true, []]);
    reporter.monitored({ step: 1, knn: [{ neighbours: 20, ...of(50) }], probe: of(60) }, 1);
    assert.deepEqual(sent[1]?.knn, [{ neighbours: 20, top1: 50, top5: 90 }]);
    assert.deepEqual([sent[1]?.probeTop1, sent[1]?.probeTop5], [60, 90]);
  });

  it("averages the time of all-reduces, and the share of it that was hidden", () => {
    const { sent, reporter } = open();
    reporter.step({ ...stepAt(1), allReduce: { seconds: 1, hidden: 1 } }, 0);
    reporter.step({ ...stepAt(10, true), allReduce: { seconds: 2, hidden: 0 } }, 1);
    const figures = sent.map(({ allReduceSeconds, allReduceHidden }) => [
      allReduceSeconds,
      allReduceHidden?.toFixed(4),
    ]);
    assert.deepEqual(figures, [
      [1, "1.0000"],
      [1.1, (0.9 / 1.1).toFixed(4)],
    ]);
  });

  it("has no time of all-reduces where one worker trains alone", () => {
    const { sent, reporter } = open();
    reporter.step(stepAt(1), 0);
    assert.equal(sent[0]?.allReduceSeconds, undefined);
    assert.equal(sent[0]?.allReduceHidden, undefined);
  });

  it("says nothing before the first step", () => {
    const { sent, reporter } = open();
    reporter.checkpoint(0, 0);
    assert.deepEqual(sent, []);
  });
});
