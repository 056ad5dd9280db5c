/** Book-keeping of a stage's steps: what it reports, logs and carries over an interruption. */

import { performance } from "node:perf_hooks";
import { type ErrorCode, FleetError } from "../../proto/errors.ts";
import type { StageContext } from "./stage-context.ts";
import type { AllReduceTime, PhaseSeconds, StageResult, StepReport } from "./stage-job.ts";

/** After these nobody knows what the model holds. */
const UNSOUND: readonly ErrorCode[] = ["LOSS_NOT_FINITE", "REPLICAS_DIVERGED", "UNEXPECTED"];

type FinishedStep = Omit<StepReport, "stepsTotal" | "epoch" | "epochsTotal" | "epochEnded">;

export class TrainingProgress {
  readonly stepsTotal: number;
  readonly #context: StageContext;
  readonly #stepsPerEpoch: number;
  readonly #epochs: number;
  readonly #startedMs = performance.now();
  #step: number;
  #images = 0;
  #trainSeconds = 0;
  #lossFirst: number | undefined;
  #lossLast = Number.NaN;

  constructor(context: StageContext, stepsPerEpoch: number, epochs: number) {
    this.#context = context;
    this.#stepsPerEpoch = stepsPerEpoch;
    this.#epochs = epochs;
    this.stepsTotal = stepsPerEpoch * epochs;
    this.#step = context.job.startStep;
  }

  /** Last finished step; steps count from 1. */
  get step(): number {
    return this.#step;
  }

  /** Takes over the figures that a checkpoint carried. */
  restore(scalars: Readonly<Record<string, number>>): void {
    this.#lossFirst = scalars["loss_first"];
    this.#lossLast = scalars["loss_last"] ?? Number.NaN;
  }

  /** What a checkpoint must carry so that the result does not depend on interruptions. */
  scalars(): Readonly<Record<string, number>> {
    return this.#lossFirst === undefined
      ? {}
      : { loss_first: this.#lossFirst, loss_last: this.#lossLast };
  }

  add(finished: FinishedStep): StepReport {
    this.#step = finished.step;
    this.#images += finished.images;
    this.#trainSeconds += finished.stepSeconds;
    this.#lossFirst ??= finished.loss;
    this.#lossLast = finished.loss;
    return {
      ...finished,
      stepsTotal: this.stepsTotal,
      epoch: finished.step / this.#stepsPerEpoch,
      epochsTotal: this.#epochs,
      epochEnded: finished.step % this.#stepsPerEpoch === 0,
    };
  }

  /**
   * Saves what was reached when a stage ends early: the state after the last whole step is sound,
   * unless the numbers themselves went wrong, on this rank or another, or a defect may have struck
   * in the middle of an update.
   */
  rescue(thrown: unknown, save: () => void): void {
    const { code } = FleetError.from(thrown);
    if (UNSOUND.includes(code)) return;
    try {
      save();
    } catch (second) {
      // The first error is the one that people must see.
      this.#context.send({ type: "warning", message: FleetError.from(second).message });
    }
  }

  /** For rank 0: the stage's result; rates over the gang, since this process took it up. */
  result(): StageResult | undefined {
    const { job } = this.#context;
    if (job.rank !== 0) return undefined;
    const images = this.#images * job.worldSize;
    return {
      stage: job.stage,
      recipe: job.recipe.name,
      world_size: job.worldSize,
      ranks: job.recipe[job.stage].workers,
      steps: this.#step,
      epochs: this.#epochs,
      images_per_s: this.#trainSeconds > 0 ? round(images / this.#trainSeconds, 3) : 0,
      wall_s: round((performance.now() - this.#startedMs) / 1000, 3),
      loss_first: this.#lossFirst ?? Number.NaN,
      loss_last: this.#lossLast,
    };
  }
}

/** Tells the main thread, and scalars.jsonl on rank 0. */
export function reportStep({ log, send, job }: StageContext, report: StepReport): void {
  send({ type: "step", report });
  log.write({
    stage: job.stage,
    epoch: round(report.epoch, 4),
    step: report.step,
    loss: report.loss,
    ...monitorColumns(report),
    lr: report.lr,
    images_per_s: round((report.images * job.worldSize) / report.stepSeconds, 2),
    step_s: round(report.stepSeconds, 5),
    wait_s: round(report.waitSeconds, 5),
    ...phaseColumns(report.phaseSeconds),
    ...allReduceColumns(report.allReduce),
  });
}

function monitorColumns({ bound, probe }: StepReport): Record<string, number> {
  return {
    ...(bound && { loss_bound: round(bound.value, 4) }),
    ...(probe && { "probe/batch_loss": probe.loss, "probe/batch_top1": round(probe.top1, 3) }),
  };
}

function phaseColumns(phases: PhaseSeconds): Record<string, number> {
  return Object.fromEntries(
    Object.entries(phases).map(([phase, seconds]) => [`${phase}_s`, round(seconds, 5)]),
  );
}

function allReduceColumns(allReduce: AllReduceTime | undefined): Record<string, number> {
  if (!allReduce) return {};
  const { seconds, hidden } = allReduce;
  return { all_reduce_s: round(seconds, 5), all_reduce_hidden: round(hidden, 4) };
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
