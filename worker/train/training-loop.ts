/**
 * The loop that both stages share: batches in, steps reported, checkpoints out. What a step does is
 * the stage's affair.
 */

import { performance } from "node:perf_hooks";
import type { Batch, BatchReader } from "../data/batch-reader.ts";
import { stepsPerEpoch } from "../data/sampler.ts";
import type { Allocate } from "../model/model-state.ts";
import { learningRateAt } from "../optim/learning-rate.ts";
import { allReduceTime } from "./all-reduce-time.ts";
import { settleTogether } from "./checkpoint-sender.ts";
import { type Beside, CheckpointWriter, type Trained } from "./checkpoint-writer.ts";
import { PhaseClock } from "./phase-clock.ts";
import { copyReplica } from "./replica.ts";
import type { ReplicaCheck } from "./replica-check.ts";
import { type StageContext, stoppedAtStep, throwIfStopped } from "./stage-context.ts";
import { STOP_NOW, type TrainedStep } from "./stage-job.ts";
import { reportStep, TrainingProgress } from "./training-progress.ts";

export interface StageSteps {
  readonly model: Trained;
  readonly replicaCheck: ReplicaCheck;
  /**
   * Trains on one batch at learning rate `lr`, and moves the model. Every rank tells in it whether
   * it wants to stop, and learns whether any does.
   */
  readonly train: (batch: Batch, lr: number) => TrainedStep & { readonly isStopWanted: boolean };
  /** Runs after each step, before its checkpoint is written. */
  readonly afterStep?: () => void;
  /** What else a checkpoint must carry. */
  readonly beside?: (allocate?: Allocate) => Beside;
}

export class TrainingLoop {
  /** For the stage to book where the time of its step goes. */
  readonly clock: PhaseClock;
  readonly stepsPerEpoch: number;
  readonly progress: TrainingProgress;
  readonly #context: StageContext;

  constructor(context: StageContext) {
    const { recipe, stage, trainImages } = context.job;
    // Of the recipe's ranks, however many workers hold them.
    const { workers: worldSize, batchPerWorker, dropLast, epochs } = recipe[stage];
    this.#context = context;
    this.clock = new PhaseClock(context.tracer);
    const split = { count: trainImages, worldSize, batchPerWorker, dropLast };
    this.stepsPerEpoch = stepsPerEpoch(split);
    this.progress = new TrainingProgress(context, this.stepsPerEpoch, epochs);
  }

  /**
   * Runs to the end of the stage, and until its last checkpoint is durable. When it ends early, the
   * state after the last whole step is kept in memory, and saved.
   *
   * @throws {FleetError} GENERATION_ABORTED, DATA_INVALID, LOSS_NOT_FINITE, REPLICAS_DIVERGED,
   *   STORAGE_FAILED
   */
  run(batches: BatchReader, steps: StageSteps): void {
    const { progress } = this;
    const checkpoints = new CheckpointWriter(this.#context, this.stepsPerEpoch, steps.model);
    const beside = (allocate?: Allocate): Beside => {
      const own = steps.beside?.(allocate) ?? { scalars: {} };
      return { ...own, scalars: { ...progress.scalars(), ...own.scalars } };
    };
    // The model has it now.
    this.#context.replicas.drop();
    try {
      for (;;) {
        throwIfStopped(this.#context.job, STOP_NOW);
        const started = performance.now();
        this.clock.restart();
        const batch = batches.next();
        if (!batch) {
          this.#end(checkpoints, beside);
          return;
        }
        this.clock.end("data");
        const isStopWanted = this.#step(batch, started, steps);
        batches.done();
        const isKept = isStopWanted || checkpoints.isDue(progress.step, progress.stepsTotal);
        this.#time("replica check", () => steps.replicaCheck.afterStep(progress.step, isKept));
        if (isStopWanted) this.#stopTogether();
        this.#time("evaluation", () => steps.afterStep?.());
        this.#time("copy checkpoint", () =>
          checkpoints.afterStep(progress.step, progress.stepsTotal, beside),
        );
        this.#context.tracer?.endStep();
      }
    } catch (thrown) {
      progress.rescue(thrown, () => {
        const { job, replicas, log } = this.#context;
        if (progress.step > 0) {
          const { experimentId, stage } = job;
          const lines = log.newest.filter(({ step }) => step === progress.step);
          const held = { experimentId, stage, step: progress.step, beside: beside(), lines };
          replicas.keep(copyReplica(held, steps.model));
        }
        checkpoints.save(progress.step, beside, { isLast: true });
      });
      throw thrown;
    }
  }

  /** Returns once the last checkpoint is durable. */
  #end(checkpoints: CheckpointWriter, beside: (allocate?: Allocate) => Beside): void {
    // A gang that broke up at the very end may have left the state with its members only.
    checkpoints.save(this.progress.step, beside, { isLast: true });
    settleTogether(this.#context.group, this.#context.checkpoints);
  }

  /** What is due after this step is made up for when the stage is taken up again. */
  #stopTogether(): never {
    // Who leaves at once might take from others what they still need for this step.
    this.#context.group.barrier();
    throw stoppedAtStep();
  }

  /** Does what comes between two steps. */
  #time(name: string, work: () => void): void {
    const { tracer } = this.#context;
    if (tracer) tracer.time(name, work);
    else work();
  }

  /** @returns whether any rank wants to stop after it */
  #step(batch: Batch, started: number, { train }: StageSteps): boolean {
    const { job, group } = this.#context;
    const { schedule, optimizer, epochs } = job.recipe[job.stage];
    const length = { baseLr: optimizer.lr, epochs, stepsPerEpoch: this.stepsPerEpoch };
    const lr = learningRateAt(schedule, length, batch.step);
    const { allReduceSeconds: reducedBefore, waitedSeconds: waitedBefore } = group;
    const { isStopWanted, ...trained } = train(batch, lr);
    const endMs = performance.now();
    const phaseSeconds = this.clock.seconds();
    this.#context.tracer?.add("step", { beginMs: started, endMs }, { step: batch.step + 1 });
    const finished = this.progress.add({
      ...trained,
      step: batch.step + 1,
      lr,
      images: batch.count,
      stepSeconds: (endMs - started) / 1000,
      waitSeconds: group.waitedSeconds - waitedBefore,
      phaseSeconds,
      syncNormSeconds: this.clock.syncNormSeconds,
      allReduce: allReduceTime(group.allReduceSeconds - reducedBefore, phaseSeconds.reduce),
    });
    reportStep(this.#context, finished);
    return isStopWanted;
  }
}
