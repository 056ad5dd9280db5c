/**
 * The loop that both stages share: batches in, steps reported, checkpoints out. What a step does is
 * the stage's affair.
 */

import { performance } from "node:perf_hooks";
import type { Batch, BatchReader } from "../data/batch-reader.ts";
import { stepsPerEpoch } from "../data/sampler.ts";
import { learningRateAt } from "../optim/learning-rate.ts";
import { allReduceTime } from "./all-reduce-time.ts";
import { type Beside, CheckpointWriter, type Trained } from "./checkpoint-writer.ts";
import { PhaseClock } from "./phase-clock.ts";
import { type StageContext, throwIfStopped } from "./stage-context.ts";
import type { TrainedStep } from "./stage-job.ts";
import { reportStep, TrainingProgress } from "./training-progress.ts";

export interface StageSteps {
  readonly model: Trained;
  /** Trains on one batch at learning rate `lr`, and moves the model. */
  readonly train: (batch: Batch, lr: number) => TrainedStep;
  /** Runs after each step, before its checkpoint is written. */
  readonly afterStep?: () => void;
  /** What else a checkpoint must carry. */
  readonly beside?: () => Beside;
}

export class TrainingLoop {
  /** For the stage to book where the time of its step goes. */
  readonly clock = new PhaseClock();
  readonly stepsPerEpoch: number;
  readonly progress: TrainingProgress;
  readonly #context: StageContext;

  constructor(context: StageContext) {
    const { recipe, stage, trainImages, worldSize } = context.job;
    const { batchPerWorker, dropLast, epochs } = recipe[stage];
    this.#context = context;
    const split = { count: trainImages, worldSize, batchPerWorker, dropLast };
    this.stepsPerEpoch = stepsPerEpoch(split);
    this.progress = new TrainingProgress(context, this.stepsPerEpoch, epochs);
  }

  /**
   * Runs to the end of the stage. When it ends early, the state after the last whole step is saved.
   *
   * @throws {FleetError} GENERATION_ABORTED, DATA_INVALID, LOSS_NOT_FINITE, STORAGE_FAILED
   */
  run(batches: BatchReader, steps: StageSteps): void {
    const { progress } = this;
    const checkpoints = new CheckpointWriter(this.#context, this.stepsPerEpoch, steps.model);
    const beside = (): Beside => {
      const own = steps.beside?.() ?? { scalars: {} };
      return { ...own, scalars: { ...progress.scalars(), ...own.scalars } };
    };
    try {
      for (;;) {
        throwIfStopped(this.#context.job);
        this.clock.restart();
        const started = performance.now();
        const batch = batches.next();
        if (!batch) return;
        this.clock.end("data");
        this.#step(batch, started, steps);
        batches.done();
        steps.afterStep?.();
        checkpoints.afterStep(progress.step, progress.stepsTotal, beside);
      }
    } catch (thrown) {
      progress.rescue(thrown, () => checkpoints.save(progress.step, beside));
      throw thrown;
    }
  }

  #step(batch: Batch, started: number, { train }: StageSteps): void {
    const { job, group } = this.#context;
    const { schedule, optimizer, epochs } = job.recipe[job.stage];
    const length = { baseLr: optimizer.lr, epochs, stepsPerEpoch: this.stepsPerEpoch };
    const lr = learningRateAt(schedule, length, batch.step);
    const reducedBefore = group.allReduceSeconds;
    const trained = train(batch, lr);
    const phaseSeconds = this.clock.seconds();
    const finished = this.progress.add({
      ...trained,
      step: batch.step + 1,
      lr,
      images: batch.count,
      stepSeconds: (performance.now() - started) / 1000,
      phaseSeconds,
      allReduce: allReduceTime(group.allReduceSeconds - reducedBefore, phaseSeconds.reduce),
    });
    reportStep(this.#context, finished);
  }
}
