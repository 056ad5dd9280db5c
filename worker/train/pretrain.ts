/**
 * The pre-training stage of one rank.
 *
 * A step changes nothing before its gradients are the sum over all ranks; then weights, momentum
 * and running statistics move together. So whenever the group breaks up, every rank holds the state
 * after a whole step, and rank 0 can write it down.
 */

import { performance } from "node:perf_hooks";
import { elementCount } from "../../proto/model/model-plan.ts";
import type { Batch, BatchReader } from "../data/batch-reader.ts";
import type { BatchReducer, Engine } from "../engine/engine.ts";
import { ntXent } from "../loss/nt-xent.ts";
import { createBatchReducer } from "../model/batch-reducer.ts";
import { initialState } from "../model/initial-state.ts";
import { PretrainModel } from "../model/pretrain-model.ts";
import { learningRateAt } from "../optim/learning-rate.ts";
import { updateOptions } from "../optim/update-options.ts";
import { assertFiniteNumbers, guardReducer } from "./finite.ts";
import { GradientBuckets } from "./gradient-buckets.ts";
import {
  CheckpointWriter,
  epochSteps,
  PhaseClock,
  restoreCheckpoint,
  type StageContext,
  throwIfStopped,
} from "./stage-context.ts";
import type { StageResult } from "./stage-job.ts";
import { broadcastState } from "./sync-state.ts";
import { reportStep, TrainingProgress } from "./training-progress.ts";

/** Rank 0 returns the stage's result, the others nothing. */
export function pretrain(
  engine: Engine,
  context: StageContext,
  batches: BatchReader,
): StageResult | undefined {
  return engine.scope(() => new Pretraining(engine, context).run(batches));
}

class Pretraining {
  readonly #engine: Engine;
  readonly #context: StageContext;
  readonly #model: PretrainModel;
  readonly #buckets: GradientBuckets;
  readonly #reducer: BatchReducer | undefined;
  readonly #stepsPerEpoch: number;
  readonly #progress: TrainingProgress;
  readonly #checkpoints: CheckpointWriter;
  readonly #clock = new PhaseClock();

  constructor(engine: Engine, context: StageContext) {
    const { job, group } = context;
    const { recipe } = job;
    this.#engine = engine;
    this.#context = context;
    const { epochs } = recipe.pretrain;
    this.#stepsPerEpoch = epochSteps(job);
    this.#progress = new TrainingProgress(context, this.#stepsPerEpoch, epochs);
    this.#model = restore(engine, context, this.#progress);
    this.#buckets = new GradientBuckets(
      engine,
      group,
      this.#model.parameters.map(({ shape }) => elementCount(shape)),
      recipe.collective.bucketBytes,
    );
    const isSynced = recipe.pretrain.syncBatchNorm && job.worldSize > 1;
    this.#reducer = isSynced
      ? guardReducer(createBatchReducer(group), job.rank, () => this.#progress.step + 1)
      : undefined;
    this.#checkpoints = new CheckpointWriter(context, this.#stepsPerEpoch, this.#model);
  }

  run(batches: BatchReader): StageResult | undefined {
    const { job } = this.#context;
    this.#clock.end("data");
    this.#clock.take();
    try {
      for (;;) {
        throwIfStopped(job);
        const started = performance.now();
        const batch = batches.next();
        if (!batch) break;
        this.#clock.end("data");
        this.#step(batch, started);
        batches.done();
      }
    } catch (thrown) {
      this.#progress.rescue(thrown, () =>
        this.#checkpoints.save(this.#progress.step, this.#progress.scalars()),
      );
      throw thrown;
    }
    return this.#progress.result();
  }

  #step(batch: Batch, started: number): void {
    const { job, group } = this.#context;
    const { pretrain: stage } = job.recipe;
    const step = batch.step;
    const baseLr = stage.optimizer.lr;
    const lr = learningRateAt(
      stage.schedule,
      { baseLr, epochs: stage.epochs, stepsPerEpoch: this.#stepsPerEpoch },
      step,
    );
    const loss = this.#forwardBackward(batch);
    this.#buckets.finish();
    this.#clock.end("reduce");

    const gradientScale = stage.gradientScale === "mmpretrain" ? 1 / group.worldSize : 1;
    for (const [index, parameter] of this.#model.parameters.entries()) {
      const options = updateOptions(stage.optimizer, parameter, lr, gradientScale);
      const gradient = this.#buckets.gradient(index);
      this.#engine.update(parameter.weight, parameter.velocity, gradient, options);
    }
    this.#model.commitStatistics();
    this.#clock.end("update");

    const stepSeconds = (performance.now() - started) / 1000;
    const phaseSeconds = this.#clock.take();
    const images = batch.count;
    const finished = this.#progress.add({
      step: step + 1,
      loss,
      lr,
      images,
      stepSeconds,
      phaseSeconds,
    });
    reportStep(this.#context, finished);
    this.#checkpoints.afterStep(step + 1, this.#progress.stepsTotal, this.#progress.scalars());
    this.#clock.end("data");
    this.#clock.take();
  }

  /** Fills the gradient buckets and returns the global loss. */
  #forwardBackward(batch: Batch): number {
    const engine = this.#engine;
    const { job, group } = this.#context;
    const { data, pretrain: stage } = job.recipe;
    return engine.scope(() => {
      const shape = [batch.count * batch.views, 3, data.imageSize, data.imageSize];
      const images = engine.uploadImages(batch.pixels, shape, data);
      const { z } = this.#model.forwardTrain(images, this.#reducer);
      const dim = z.shape[1] ?? 0;
      const z_RD = engine.download(z);
      this.#clock.end("forward");
      const where = { rank: job.rank, step: batch.step + 1 };
      assertFiniteNumbers(z_RD, { ...where, what: "embeddings are" });
      const { loss, dz_RD, brokenRank } = ntXent(engine, group, z_RD, {
        dim,
        temperature: stage.temperature,
      });
      const rank = brokenRank ?? job.rank;
      assertFiniteNumbers(Float32Array.of(loss), { ...where, rank, what: "loss is" });
      this.#clock.end("loss");
      const dz = engine.upload(dz_RD, z.shape);
      this.#model.backward(dz, (index, gradient) => this.#buckets.add(index, gradient));
      this.#clock.end("backward");
      return loss;
    });
  }
}

/** The model with rank 0's state: of the checkpoint when there is one, else freshly drawn. */
function restore(
  engine: Engine,
  { job, group }: StageContext,
  progress: TrainingProgress,
): PretrainModel {
  const { model: recipe, seed } = job.recipe;
  const model = new PretrainModel(engine, recipe, initialState(recipe, "pretrain", seed));
  if (job.resumeFrom !== undefined) {
    progress.restore(restoreCheckpoint(job.resumeFrom, model).scalars);
  }
  if (job.startStep > 0) broadcastState(group, model);
  return model;
}
