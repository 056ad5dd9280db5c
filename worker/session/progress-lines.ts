/** How far a stage is, in the log: a line now and then, for who has nothing but logs. */

import type { Log } from "../../proto/log.ts";
import type { Accuracy } from "../train/hits.ts";
import type { MonitorFigures, StepReport } from "../train/stage-job.ts";

/** Between two lines; the first step of an assignment has one, too. */
const LINE_MS = 60_000;

export class ProgressLines {
  readonly #log: Log;
  #nextMs = Number.NEGATIVE_INFINITY;

  constructor(log: Log) {
    this.#log = log;
  }

  step(report: StepReport, nowMs: number): void {
    if (nowMs < this.#nextMs && report.step < report.stepsTotal) return;
    this.#nextMs = nowMs + LINE_MS;
    const { step, stepsTotal, loss, lr, stepSeconds, waitSeconds, images } = report;
    this.#log.info({
      event: "training",
      step,
      stepsTotal,
      epoch: rounded(report.epoch),
      loss: rounded(loss),
      lr: rounded(lr),
      stepSeconds: rounded(stepSeconds),
      waitSeconds: rounded(waitSeconds),
      imagesPerSecond: rounded(images / stepSeconds),
    });
  }

  validated({ top1, top5 }: Pick<Accuracy, "top1" | "top5">, step: number): void {
    this.#log.info({ event: "validated", step, top1: rounded(top1), top5: rounded(top5) });
  }

  monitored({ step, knn, probe }: MonitorFigures): void {
    this.#log.info({ event: "features judged", step, knn, probe });
  }
}

function rounded(value: number): number {
  return Number(value.toPrecision(6));
}
