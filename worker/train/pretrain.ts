/**
 * The pre-training stage of one rank.
 *
 * A step changes nothing before its gradients are the sum over all ranks; then weights, momentum
 * and running statistics move together. So whenever the group breaks up, every rank holds the state
 * after a whole step, and rank 0 can write it down.
 */

import { elementCount, planPretrain } from "../../proto/model/model-plan.ts";
import type { Batch, BatchReader } from "../data/batch-reader.ts";
import type { BatchReducer, Engine } from "../engine/engine.ts";
import { ntXent } from "../loss/nt-xent.ts";
import { createBatchReducer } from "../model/batch-reducer.ts";
import { blankState, initialState } from "../model/initial-state.ts";
import type { Allocate } from "../model/model-state.ts";
import { PretrainModel } from "../model/pretrain-model.ts";
import { updateOptions } from "../optim/update-options.ts";
import type { Beside } from "./checkpoint-writer.ts";
import { assertFiniteNumbers, guardReducer, type NumberCheck, openNumberCheck } from "./finite.ts";
import { GradientBuckets } from "./gradient-buckets.ts";
import { LossBoundWatch } from "./loss-bound-watch.ts";
import { Monitor } from "./monitor.ts";
import { passOver } from "./monitor-batches.ts";
import { type HeldTensors, ReplicaCheck } from "./replica-check.ts";
import { restoreState } from "./restore-state.ts";
import { isStopWanted, type StageContext } from "./stage-context.ts";
import type { MonitorJob, StageResult } from "./stage-job.ts";
import { type StageSteps, TrainingLoop } from "./training-loop.ts";

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
  readonly #check: NumberCheck;
  readonly #buckets: GradientBuckets;
  readonly #reducer: BatchReducer | undefined;
  readonly #loop: TrainingLoop;
  readonly #bound: LossBoundWatch;
  readonly #monitor: Monitor | undefined;

  constructor(engine: Engine, context: StageContext) {
    const { job, group } = context;
    const { recipe } = job;
    this.#engine = engine;
    this.#context = context;
    this.#loop = new TrainingLoop(context);
    const { stepsPerEpoch, progress } = this.#loop;
    this.#bound = new LossBoundWatch(context, stepsPerEpoch);
    this.#model = openModel(engine, context);
    const restored = restoreState(context, this.#model);
    progress.restore(restored.beside.scalars);
    this.#bound.restore(restored.beside.scalars);
    this.#check = openNumberCheck(context, () => progress.step + 1);
    this.#buckets = this.#openBuckets();
    const isSynced = recipe.pretrain.syncBatchNorm && job.worldSize > 1;
    this.#reducer = isSynced ? guardReducer(createBatchReducer(group), this.#check) : undefined;
    this.#monitor = job.monitor && this.#openMonitor(job.monitor);
    if (job.startStep > 0) this.#monitor?.restore(restored, job.startStep);
  }

  #openBuckets(): GradientBuckets {
    const { job, group } = this.#context;
    const { parameters } = this.#model;
    const sizes = parameters.map(({ shape }) => elementCount(shape));
    return new GradientBuckets(this.#engine, group, sizes, {
      bucketBytes: job.recipe.collective.bucketBytes,
      check: (index, gradient) =>
        this.#check(gradient, `the gradient of ${parameters[index]?.name} is`),
    });
  }

  #openMonitor(monitor: MonitorJob): Monitor {
    const { job } = this.#context;
    return new Monitor({
      engine: this.#engine,
      context: this.#context,
      monitor,
      model: this.#model,
      stepsPerEpoch: this.#loop.stepsPerEpoch,
      passOver: (split, visit) => passOver(job, monitor, split, visit),
    });
  }

  run(batches: BatchReader): StageResult | undefined {
    const { progress } = this.#loop;
    this.#loop.run(batches, {
      model: this.#model,
      replicaCheck: new ReplicaCheck(this.#engine, this.#context, () => this.#held()),
      train: (batch, lr) => this.#step(batch, lr),
      afterStep: () => this.#monitor?.evaluate(progress.step),
      beside: (allocate) => this.#beside(allocate),
    });
    const result = progress.result();
    return result && { ...result, ...this.#monitor?.result() };
  }

  /** Running statistics of a rank's own batches are its own, too. */
  *#held(): HeldTensors {
    for (const { weight, velocity } of this.#model.parameters) yield* [weight, velocity];
    if (this.#context.job.recipe.pretrain.syncBatchNorm) yield* this.#model.statistics;
  }

  #beside(allocate?: Allocate): Beside {
    const { scalars = {}, ...rest } = this.#monitor?.beside(allocate) ?? {};
    return { ...rest, scalars: { ...this.#bound.scalars(), ...scalars } };
  }

  #step(batch: Batch, lr: number): ReturnType<StageSteps["train"]> {
    const { job, group } = this.#context;
    const { optimizer, gradientScale } = job.recipe.pretrain;
    const { loss, isStopWanted } = this.#forwardBackward(batch);
    this.#buckets.finish();
    // From here on nothing can fail that would leave the state between two steps.
    this.#monitor?.finish();
    this.#loop.clock.end("reduce");

    const scale = gradientScale === "mmpretrain" ? 1 / group.worldSize : 1;
    for (const [index, parameter] of this.#model.parameters.entries()) {
      const options = updateOptions(optimizer, parameter, lr, scale);
      const gradient = this.#buckets.gradient(index);
      this.#engine.update(parameter.weight, parameter.velocity, gradient, options);
    }
    this.#model.commitStatistics();
    const probe = this.#monitor?.update(batch.step);
    this.#loop.clock.end("update");
    const bound = this.#bound.add(batch.step + 1, loss, batch.count * group.worldSize);
    return { loss, bound, isStopWanted, ...(probe && { probe }) };
  }

  /** Fills the gradient buckets; returns the global loss, and whether any rank wants to stop. */
  #forwardBackward(batch: Batch): { readonly loss: number; readonly isStopWanted: boolean } {
    const engine = this.#engine;
    const { clock } = this.#loop;
    const { job, group } = this.#context;
    const { data, pretrain: stage } = job.recipe;
    return engine.scope(() => {
      const shape = [batch.count * batch.views, 3, data.imageSize, data.imageSize];
      const images = engine.uploadImages(batch.pixels, shape, data);
      const { features, z } = this.#model.forwardTrain(images, this.#reducer);
      const dim = z.shape[1] ?? 0;
      const z_RD = engine.download(z);
      clock.end("forward");
      this.#check(z_RD, "embeddings are");
      const { loss, dz_RD, brokenRank, ...told } = ntXent(engine, group, z_RD, {
        dim,
        temperature: stage.temperature,
        wantsStop: isStopWanted(job),
      });
      const where = { rank: brokenRank ?? job.rank, step: batch.step + 1, what: "loss is" };
      assertFiniteNumbers(Float32Array.of(loss), where);
      this.#monitor?.backward(features, batch.labels);
      clock.end("loss");
      const dz = engine.upload(dz_RD, z.shape);
      this.#model.backward(dz, (index, gradient) => this.#buckets.add(index, gradient));
      clock.end("backward");
      return { loss, ...told };
    });
  }
}

/** The model as the stage starts with it, or one that is about to be overwritten. */
function openModel(engine: Engine, { job }: StageContext): PretrainModel {
  const { model, seed } = job.recipe;
  const state =
    job.source.type === "initial"
      ? initialState(model, "pretrain", seed)
      : blankState(planPretrain(model));
  return new PretrainModel(engine, model, state);
}
