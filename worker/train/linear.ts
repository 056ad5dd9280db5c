/**
 * The linear-evaluation stage of one rank: a linear classifier on the frozen backbone.
 *
 * The backbone runs in eval mode, so its running statistics never move. Only the head is trained,
 * with the gradient of the mean cross entropy over the global batch.
 */

import { performance } from "node:perf_hooks";
import { elementCount } from "../../proto/model/model-plan.ts";
import { type Checkpoint, readCheckpoint } from "../checkpoint/checkpoint-store.ts";
import type { SharedFloats } from "../collective/process-group.ts";
import type { Batch, BatchReader } from "../data/batch-reader.ts";
import type { Engine } from "../engine/engine.ts";
import { initialState } from "../model/initial-state.ts";
import { LinearModel } from "../model/linear-model.ts";
import type { ModelState } from "../model/model-state.ts";
import { learningRateAt } from "../optim/learning-rate.ts";
import { updateOptions } from "../optim/update-options.ts";
import { assertFiniteNumbers } from "./finite.ts";
import {
  CheckpointWriter,
  epochSteps,
  naming,
  PhaseClock,
  restoreCheckpoint,
  type StageContext,
  throwIfStopped,
} from "./stage-context.ts";
import type { StageResult } from "./stage-job.ts";
import { broadcastState } from "./sync-state.ts";
import { reportStep, TrainingProgress } from "./training-progress.ts";
import { type Accuracy, validate } from "./validate.ts";

/** Rank 0 returns the stage's result, the others nothing. */
export function linearEvaluation(
  engine: Engine,
  context: StageContext,
  train: BatchReader,
  validation: BatchReader,
): StageResult | undefined {
  return engine.scope(() => new LinearEvaluation(engine, context, validation).run(train));
}

class LinearEvaluation {
  readonly #engine: Engine;
  readonly #context: StageContext;
  readonly #validation: BatchReader;
  readonly #model: LinearModel;
  readonly #stepsPerEpoch: number;
  readonly #progress: TrainingProgress;
  readonly #checkpoints: CheckpointWriter;
  readonly #clock = new PhaseClock();
  /** Gradients of the head's parameters one after the other, then the loss: one all-reduce. */
  readonly #shared: SharedFloats;
  /** Views into it, by parameter. */
  readonly #gradients: readonly SharedFloats[];
  #accuracy: Accuracy | undefined;

  constructor(engine: Engine, context: StageContext, validation: BatchReader) {
    const { job } = context;
    const { linear } = job.recipe;
    this.#engine = engine;
    this.#context = context;
    this.#validation = validation;
    this.#stepsPerEpoch = epochSteps(job);
    this.#progress = new TrainingProgress(context, this.#stepsPerEpoch, linear.epochs);
    this.#model = restore(engine, context, this.#progress);
    const sizes = this.#model.parameters.map(({ shape }) => elementCount(shape));
    const elements = sizes.reduce((sum, size) => sum + size, 0);
    this.#shared = new Float32Array(new SharedArrayBuffer(4 * (elements + 1)));
    let at = 0;
    this.#gradients = sizes.map((size) => {
      at += size;
      return this.#shared.subarray(at - size, at);
    });
    this.#checkpoints = new CheckpointWriter(context, this.#stepsPerEpoch, this.#model);
  }

  run(train: BatchReader): StageResult | undefined {
    const { job } = this.#context;
    const { everyEpochs } = job.recipe.linear.validation;
    this.#clock.end("data");
    this.#clock.take();
    try {
      for (;;) {
        throwIfStopped(job);
        const started = performance.now();
        const batch = train.next();
        if (!batch) break;
        this.#clock.end("data");
        this.#step(batch, started);
        train.done();
        const step = this.#progress.step;
        const isLast = step === this.#progress.stepsTotal;
        if (isLast || step % (everyEpochs * this.#stepsPerEpoch) === 0) this.#validate();
        this.#checkpoints.afterStep(step, this.#progress.stepsTotal, this.#progress.scalars());
        this.#clock.end("data");
        this.#clock.take();
      }
    } catch (thrown) {
      this.#progress.rescue(thrown, () =>
        this.#checkpoints.save(this.#progress.step, this.#progress.scalars()),
      );
      throw thrown;
    }
    return this.#result();
  }

  #step(batch: Batch, started: number): void {
    const { job, group } = this.#context;
    const { linear: stage } = job.recipe;
    const lr = learningRateAt(
      stage.schedule,
      { baseLr: stage.optimizer.lr, epochs: stage.epochs, stepsPerEpoch: this.#stepsPerEpoch },
      batch.step,
    );
    this.#forwardBackward(batch);
    group.allReduce(this.#shared).wait();
    const loss = this.#shared.at(-1)! / (batch.count * group.worldSize);
    this.#clock.end("reduce");
    assertFiniteNumbers(Float32Array.of(loss), {
      rank: job.rank,
      step: batch.step + 1,
      what: "loss is",
    });
    for (const [index, parameter] of this.#model.parameters.entries()) {
      const options = updateOptions(stage.optimizer, parameter, lr, 1);
      this.#engine.update(parameter.weight, parameter.velocity, this.#gradients[index]!, options);
    }
    this.#clock.end("update");
    const stepSeconds = (performance.now() - started) / 1000;
    const phaseSeconds = this.#clock.take();
    const finished = { step: batch.step + 1, loss, lr, images: batch.count };
    reportStep(this.#context, this.#progress.add({ ...finished, stepSeconds, phaseSeconds }));
  }

  /** Fills the shared buffer with this rank's part of the gradient and of the loss. */
  #forwardBackward(batch: Batch): void {
    const engine = this.#engine;
    const { job, group } = this.#context;
    engine.scope(() => {
      const shape = [batch.count, 3, job.recipe.data.imageSize, job.recipe.data.imageSize];
      const images = engine.uploadImages(batch.pixels, shape, job.recipe.data);
      const features = this.#model.forwardFeatures(images);
      const logits = this.#model.forwardLogits(features);
      this.#clock.end("forward");
      const scale = 1 / (batch.count * group.worldSize);
      const { lossSum, dLogits } = engine.softmaxCrossEntropy(logits, batch.labels, scale);
      this.#clock.end("loss");
      for (const [index, gradient] of this.#model.backward(features, dLogits).entries()) {
        engine.download(gradient, this.#gradients[index]);
      }
      this.#shared[this.#shared.length - 1] = lossSum;
      this.#clock.end("backward");
    });
  }

  #validate(): void {
    const accuracy = validate(this.#engine, this.#context, this.#model, this.#validation);
    this.#accuracy = accuracy;
    const { log, send, job } = this.#context;
    send({ type: "validated", top1: accuracy.top1, top5: accuracy.top5 });
    log.write({
      stage: job.stage,
      epoch: this.#progress.step / this.#stepsPerEpoch,
      step: this.#progress.step,
      "accuracy/top1": accuracy.top1,
      "accuracy/top5": accuracy.top5,
      validation_images: accuracy.images,
    });
  }

  #result(): StageResult | undefined {
    // A stage that was resumed after its last step has not validated yet.
    if (!this.#accuracy) this.#validate();
    const result = this.#progress.result();
    if (!result || !this.#accuracy) return result;
    return {
      ...result,
      top1: this.#accuracy.top1,
      top5: this.#accuracy.top5,
      validation_images: this.#accuracy.images,
      init: this.#context.job.recipe.linear.init,
    };
  }
}

/** The model as rank 0 has it: of a checkpoint of this stage, else backbone plus a fresh head. */
function restore(
  engine: Engine,
  { job, group }: StageContext,
  progress: TrainingProgress,
): LinearModel {
  const { model: recipe, seed, linear } = job.recipe;
  const state = initialState(recipe, "linear", seed, linear.classes);
  const model = new LinearModel(engine, recipe, state);
  if (job.resumeFrom !== undefined) {
    progress.restore(restoreCheckpoint(job.resumeFrom, model).scalars);
  } else if (job.backboneFrom !== undefined) {
    const folder = job.backboneFrom;
    naming(folder, () => model.importState(withBackbone(state, readCheckpoint(folder))));
  }
  broadcastState(group, model);
  return model;
}

/** The state with the checkpoint's backbone; its neck or head stays behind. */
function withBackbone(state: ModelState, { model, manifest }: Checkpoint): ModelState {
  const isBackbone = ([name]: readonly [string, unknown]): boolean => name.startsWith("backbone.");
  const backbone = [...model].filter(isBackbone);
  const head = [...state.tensors].filter((entry) => !isBackbone(entry));
  return {
    tensors: new Map([...backbone, ...head]),
    batchesTracked: manifest.batchesTracked,
  };
}
