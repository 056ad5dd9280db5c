/**
 * The pre-training stage of one rank.
 *
 * A step changes nothing before its gradients are the sum over all ranks; then weights, momentum
 * and running statistics move together. So whenever the group breaks up, every rank holds the state
 * after a whole step, and rank 0 can write it down.
 *
 * A worker that holds several ranks of the recipe trains on the batch of each in turn. Its loss is
 * that of the whole global batch all the same; see gradient-cache.ts.
 */

import assert from "node:assert/strict";
import { elementCount, planPretrain } from "../../proto/model/model-plan.ts";
import type { Batch, BatchReader } from "../data/batch-reader.ts";
import type { BatchReducer, Engine } from "../engine/engine.ts";
import { type NtXentResult, ntXent } from "../loss/nt-xent.ts";
import { createBatchReducer } from "../model/batch-reducer.ts";
import { blankState, initialState } from "../model/initial-state.ts";
import type { Allocate } from "../model/model-state.ts";
import { gangMoments, meanMoments, type NormMoments } from "../model/norm-moments.ts";
import { PretrainModel } from "../model/pretrain-model.ts";
import { updateOptions } from "../optim/update-options.ts";
import type { Beside } from "./checkpoint-writer.ts";
import { assertFiniteNumbers, guardReducer, type NumberCheck, openNumberCheck } from "./finite.ts";
import { GradientBuckets } from "./gradient-buckets.ts";
import { trainInParts } from "./gradient-cache.ts";
import { ranksPerWorker } from "./held-ranks.ts";
import { LossBoundWatch } from "./loss-bound-watch.ts";
import { microBatches, uploadImages } from "./micro-batches.ts";
import { Monitor } from "./monitor.ts";
import { passOver } from "./monitor-batches.ts";
import { type HeldTensors, ReplicaCheck } from "./replica-check.ts";
import { restoreState } from "./restore-state.ts";
import { isStopWanted, type StageContext } from "./stage-context.ts";
import type { MonitorJob, StageResult } from "./stage-job.ts";
import { timedReducer } from "./timed-reducer.ts";
import { groupFor } from "./traced-group.ts";
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
  /** Ranks of the recipe that this worker holds. */
  readonly #ranks: number;
  readonly #model: PretrainModel;
  readonly #check: NumberCheck;
  readonly #buckets: GradientBuckets;
  readonly #reducer: BatchReducer | undefined;
  readonly #loop: TrainingLoop;
  readonly #bound: LossBoundWatch;
  readonly #monitor: Monitor | undefined;

  constructor(engine: Engine, context: StageContext) {
    const { job } = context;
    const { recipe } = job;
    this.#engine = engine;
    this.#context = context;
    this.#ranks = ranksPerWorker(recipe, "pretrain", job.worldSize);
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
    const { clock } = this.#loop;
    const group = groupFor(context, "sync-bn");
    this.#reducer = isSynced
      ? guardReducer(timedReducer(createBatchReducer(group), clock), this.#check)
      : undefined;
    this.#monitor = job.monitor && this.#openMonitor(job.monitor);
    if (job.startStep > 0) this.#monitor?.restore(restored, job.startStep);
  }

  #openBuckets(): GradientBuckets {
    const { job } = this.#context;
    const { parameters } = this.#model;
    const group = groupFor(this.#context, "gradients");
    const sizes = parameters.map(({ shape }) => elementCount(shape));
    return new GradientBuckets(this.#engine, group, sizes, {
      bucketBytes: job.recipe.collective.bucketBytes,
      microBatches: this.#ranks,
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

  *#held(): HeldTensors {
    for (const { weight, velocity } of this.#model.parameters) yield* [weight, velocity];
    yield* this.#model.statistics;
  }

  #beside(allocate?: Allocate): Beside {
    const { scalars = {}, ...rest } = this.#monitor?.beside(allocate) ?? {};
    return { ...rest, scalars: { ...this.#bound.scalars(), ...scalars } };
  }

  #step(batch: Batch, lr: number): ReturnType<StageSteps["train"]> {
    const { job, group } = this.#context;
    const { optimizer, gradientScale } = job.recipe.pretrain;
    const { loss, isStopWanted, moments } = this.#forwardBackward(batch);
    this.#buckets.finish();
    // From here on nothing can fail that would leave the state between two steps.
    this.#monitor?.finish();
    this.#loop.clock.end("reduce");

    const scale = gradientScale === "mmpretrain" ? 1 / job.recipe.pretrain.workers : 1;
    for (const [index, parameter] of this.#model.parameters.entries()) {
      const options = updateOptions(optimizer, parameter, lr, scale);
      const gradient = this.#buckets.gradient(index);
      this.#engine.update(parameter.weight, parameter.velocity, gradient, options);
    }
    this.#model.commitStatistics(moments);
    const probe = this.#monitor?.update(batch.step);
    this.#loop.clock.end("update");
    const bound = this.#bound.add(batch.step + 1, loss, batch.count * group.worldSize);
    return { loss, bound, isStopWanted, ...(probe && { probe }) };
  }

  /**
   * Fills the gradient buckets.
   * @returns what the loss has come to, and the batch statistics that the running ones will follow
   */
  #forwardBackward(batch: Batch): NtXentResult & { readonly moments: NormMoments } {
    const engine = this.#engine;
    const parts = microBatches(batch, this.#ranks);
    let contrast: NtXentResult | undefined;
    const statistics = engine.scope(() =>
      trainInParts({
        engine,
        model: this.#model,
        parts: parts.length,
        reducer: this.#reducer,
        upload: (part) => uploadImages(engine, parts[part]!, this.#context.job.recipe.data),
        differentiate: (z_RD) => {
          contrast = this.#contrast(z_RD, batch.step + 1);
          return contrast.dz_RD;
        },
        onFeatures: (features, part) =>
          this.#monitor?.backward(features, parts[part]!.labels, parts.length),
        onGradient: (index, gradient) => this.#buckets.add(index, gradient),
        clock: this.#loop.clock,
      }),
    );
    assert.ok(contrast, "a batch has a loss");
    return { ...contrast, moments: this.#commonMoments(statistics) };
  }

  /** @param step counted from 1 */
  #contrast(z_RD: Float32Array, step: number): NtXentResult {
    const { job } = this.#context;
    this.#check(z_RD, "embeddings are");
    const result = ntXent(this.#engine, groupFor(this.#context, "nt-xent"), z_RD, {
      dim: job.recipe.model.neck.out,
      temperature: job.recipe.pretrain.temperature,
      wantsStop: isStopWanted(job),
    });
    const where = { rank: result.brokenRank ?? job.rank, step, what: "loss is" };
    assertFiniteNumbers(Float32Array.of(result.loss), where);
    return result;
  }

  /** Mean over all ranks of the recipe; synchronised statistics are the same on all workers. */
  #commonMoments(statistics: readonly NormMoments[]): NormMoments {
    const own = meanMoments(statistics);
    if (this.#reducer) return own;
    for (const { variance } of own.values()) this.#check(variance, "activations are");
    const common = gangMoments(groupFor(this.#context, "statistics"), own);
    this.#loop.clock.end("backward");
    return common;
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
