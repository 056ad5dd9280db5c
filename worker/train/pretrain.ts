/**
 * The pre-training stage of one rank.
 *
 * A step changes nothing before its gradients are the sum over all ranks; then weights, momentum
 * and running statistics move together. So whenever the group breaks up, every rank holds the state
 * after a whole step, and rank 0 can write it down.
 */

import { elementCount } from "../../proto/model/model-plan.ts";
import type { Batch, BatchReader } from "../data/batch-reader.ts";
import type { BatchReducer, Engine } from "../engine/engine.ts";
import { ntXent } from "../loss/nt-xent.ts";
import { createBatchReducer } from "../model/batch-reducer.ts";
import { initialState } from "../model/initial-state.ts";
import { PretrainModel } from "../model/pretrain-model.ts";
import { updateOptions } from "../optim/update-options.ts";
import { restoreCheckpoint } from "./checkpoint-writer.ts";
import { assertFiniteNumbers, guardReducer } from "./finite.ts";
import { GradientBuckets } from "./gradient-buckets.ts";
import type { StageContext } from "./stage-context.ts";
import type { StageResult } from "./stage-job.ts";
import { broadcastState } from "./sync-state.ts";
import { TrainingLoop } from "./training-loop.ts";
import type { TrainingProgress } from "./training-progress.ts";

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
  readonly #loop: TrainingLoop;

  constructor(engine: Engine, context: StageContext) {
    const { job, group } = context;
    const { recipe } = job;
    this.#engine = engine;
    this.#context = context;
    this.#loop = new TrainingLoop(context);
    this.#model = restore(engine, context, this.#loop.progress);
    this.#buckets = new GradientBuckets(
      engine,
      group,
      this.#model.parameters.map(({ shape }) => elementCount(shape)),
      recipe.collective.bucketBytes,
    );
    const isSynced = recipe.pretrain.syncBatchNorm && job.worldSize > 1;
    this.#reducer = isSynced
      ? guardReducer(createBatchReducer(group), job.rank, () => this.#loop.progress.step + 1)
      : undefined;
  }

  run(batches: BatchReader): StageResult | undefined {
    const train = (batch: Batch, lr: number): number => this.#step(batch, lr);
    this.#loop.run(batches, { model: this.#model, train });
    return this.#loop.progress.result();
  }

  #step(batch: Batch, lr: number): number {
    const { job, group } = this.#context;
    const { optimizer, gradientScale } = job.recipe.pretrain;
    const loss = this.#forwardBackward(batch);
    this.#buckets.finish();
    this.#loop.clock.end("reduce");

    const scale = gradientScale === "mmpretrain" ? 1 / group.worldSize : 1;
    for (const [index, parameter] of this.#model.parameters.entries()) {
      const options = updateOptions(optimizer, parameter, lr, scale);
      const gradient = this.#buckets.gradient(index);
      this.#engine.update(parameter.weight, parameter.velocity, gradient, options);
    }
    this.#model.commitStatistics();
    this.#loop.clock.end("update");
    return loss;
  }

  /** Fills the gradient buckets and returns the global loss. */
  #forwardBackward(batch: Batch): number {
    const engine = this.#engine;
    const { clock } = this.#loop;
    const { job, group } = this.#context;
    const { data, pretrain: stage } = job.recipe;
    return engine.scope(() => {
      const shape = [batch.count * batch.views, 3, data.imageSize, data.imageSize];
      const images = engine.uploadImages(batch.pixels, shape, data);
      const { z } = this.#model.forwardTrain(images, this.#reducer);
      const dim = z.shape[1] ?? 0;
      const z_RD = engine.download(z);
      clock.end("forward");
      const where = { rank: job.rank, step: batch.step + 1 };
      assertFiniteNumbers(z_RD, { ...where, what: "embeddings are" });
      const { loss, dz_RD, brokenRank } = ntXent(engine, group, z_RD, {
        dim,
        temperature: stage.temperature,
      });
      const rank = brokenRank ?? job.rank;
      assertFiniteNumbers(Float32Array.of(loss), { ...where, rank, what: "loss is" });
      clock.end("loss");
      const dz = engine.upload(dz_RD, z.shape);
      this.#model.backward(dz, (index, gradient) => this.#buckets.add(index, gradient));
      clock.end("backward");
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
