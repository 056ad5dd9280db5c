/** Turns the steps of rank 0 into progress reports for the coordinator, at a bounded rate. */

import type { Progress, Stage } from "../../proto/gen/coordinator.ts";
import type { MonitorFigures, StepReport } from "../train/stage-job.ts";
import { runningMean } from "./running-mean.ts";

const INTERVAL_MS = 500;

export interface ReportedStage {
  readonly experimentId: string;
  readonly stage: Stage;
  readonly generation: number;
  readonly worldSize: number;
}

export class ProgressReporter {
  readonly #stage: ReportedStage;
  readonly #send: (progress: Progress) => void;
  #lastMs = Number.NEGATIVE_INFINITY;
  #stepSeconds: number | undefined;
  #trainingSeconds = 0;
  /** Of the all-reduces: all of it, and what of it the engine did not wait for. */
  #reduceSeconds: number | undefined;
  #hiddenSeconds: number | undefined;
  #lastReport: StepReport | undefined;
  #accuracy: { readonly top1: number; readonly top5: number } | undefined;
  #monitor: MonitorFigures | undefined;
  #skipped = 0;
  #checkpointStep: number | undefined;
  #checkpointFailures = 0;
  #storageProblem: string | undefined;

  constructor(stage: ReportedStage, send: (progress: Progress) => void) {
    this.#stage = stage;
    this.#send = send;
  }

  step(report: StepReport, nowMs: number): void {
    this.#lastReport = report;
    this.#stepSeconds = runningMean(this.#stepSeconds, report.stepSeconds);
    this.#trainingSeconds += report.stepSeconds;
    if (report.allReduce) {
      const { seconds, hidden } = report.allReduce;
      this.#reduceSeconds = runningMean(this.#reduceSeconds, seconds);
      this.#hiddenSeconds = runningMean(this.#hiddenSeconds, seconds * hidden);
    }
    if (report.epochEnded || nowMs - this.#lastMs >= INTERVAL_MS) this.#report(nowMs);
  }

  validated(accuracy: { readonly top1: number; readonly top5: number }, nowMs: number): void {
    this.#accuracy = accuracy;
    this.#report(nowMs);
  }

  monitored(figures: MonitorFigures, nowMs: number): void {
    this.#monitor = figures;
    this.#report(nowMs);
  }

  /** A checkpoint is durable. */
  checkpoint(step: number, nowMs: number): void {
    this.#checkpointStep = step;
    this.#report(nowMs);
  }

  checkpointFailed(): void {
    this.#checkpointFailures += 1;
  }

  /** @param problem why something cannot be written, undefined when everything can */
  storage(problem: string | undefined, nowMs: number): void {
    this.#storageProblem = problem;
    this.#report(nowMs);
  }

  skippedImage(): void {
    this.#skipped += 1;
  }

  #report(nowMs: number): void {
    const report = this.#lastReport;
    if (!report || !this.#stepSeconds) return;
    this.#lastMs = nowMs;
    const { experimentId, stage, generation, worldSize } = this.#stage;
    this.#send({
      experimentId,
      stage,
      generation,
      step: report.step,
      stepsTotal: report.stepsTotal,
      epoch: report.epoch,
      epochsTotal: report.epochsTotal,
      loss: report.loss,
      lr: report.lr,
      imagesPerSecond: (report.images * worldSize) / this.#stepSeconds,
      etaSeconds: (report.stepsTotal - report.step) * this.#stepSeconds,
      top1: this.#accuracy?.top1,
      top5: this.#accuracy?.top5,
      skippedImages: this.#skipped,
      checkpointStep: this.#checkpointStep,
      allReduceSeconds: this.#reduceSeconds,
      allReduceHidden: shareOf(this.#hiddenSeconds, this.#reduceSeconds),
      lossBound: report.bound?.value,
      lossAtBound: report.bound?.isReached,
      knn: (this.#monitor?.knn ?? []).map(({ neighbours, top1, top5 }) => ({
        neighbours,
        top1,
        top5,
      })),
      probeTop1: this.#monitor?.probe?.top1,
      probeTop5: this.#monitor?.probe?.top5,
      storageProblem: this.#storageProblem,
      checkpointFailures: this.#checkpointFailures,
      trainingSeconds: this.#trainingSeconds,
    });
  }
}

function shareOf(part: number | undefined, whole: number | undefined): number | undefined {
  return part === undefined || whole === undefined ? undefined : part / whole;
}
