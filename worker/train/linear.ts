/**
 * The linear-evaluation stage of one rank: a linear classifier on the frozen backbone.
 *
 * The backbone runs in eval mode, so its running statistics never move. Only the head is trained,
 * with the gradient of the mean cross entropy over the global batch. A worker that holds several
 * ranks of the recipe takes the batch of one after the other, and adds up before the gang does.
 */

import { elementCount, planLinear } from "../../proto/model/model-plan.ts";
import type { Recipe } from "../../proto/recipe.ts";
import { describeMatch, loadWeights } from "../checkpoint/load-weights.ts";
import { naming } from "../checkpoint/naming.ts";
import { readWeights } from "../checkpoint/read-weights.ts";
import type { SharedFloats } from "../collective/process-group.ts";
import type { Batch, BatchReader } from "../data/batch-reader.ts";
import type { Engine } from "../engine/engine.ts";
import { blankState, initialState } from "../model/initial-state.ts";
import { LinearModel } from "../model/linear-model.ts";
import type { ModelState } from "../model/model-state.ts";
import { updateOptions } from "../optim/update-options.ts";
import { assertFiniteNumbers, type NumberCheck, openNumberCheck } from "./finite.ts";
import { ranksPerWorker } from "./held-ranks.ts";
import type { Accuracy } from "./hits.ts";
import { type MicroBatch, microBatches, sumGradient, uploadImages } from "./micro-batches.ts";
import { sumPredictions } from "./predictions.ts";
import { type HeldTensors, ReplicaCheck } from "./replica-check.ts";
import { type Restored, restoreState } from "./restore-state.ts";
import { isStopWanted, type StageContext } from "./stage-context.ts";
import type { StageResult } from "./stage-job.ts";
import { broadcastState } from "./sync-state.ts";
import { groupFor } from "./traced-group.ts";
import { type StageSteps, TrainingLoop } from "./training-loop.ts";
import { validate } from "./validate.ts";

/** After the gradients: sum of the loss over the rank's images, and whether it wants to stop. */
const SUMS = 2;
const LOSS = -2;
const STOP = -1;
/** Among a checkpoint's figures: the step of the newest validation. */
const VALIDATED = "validated_step";

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
  /** Ranks of the recipe that this worker holds. */
  readonly #ranks: number;
  readonly #model: LinearModel;
  readonly #loop: TrainingLoop;
  readonly #check: NumberCheck;
  /** Gradients of the head's parameters one after the other, then {@link SUMS}: one all-reduce. */
  readonly #shared: SharedFloats;
  /** Views into it, by parameter. */
  readonly #gradients: readonly SharedFloats[];
  #accuracy: Accuracy | undefined;
  /** Of the last validation, on this rank: images by true and predicted class. */
  readonly #predictions: Int32Array;
  /** Step of the newest validation. */
  #validatedStep: number;

  constructor(engine: Engine, context: StageContext, validation: BatchReader) {
    this.#engine = engine;
    this.#context = context;
    this.#validation = validation;
    const { recipe, worldSize } = context.job;
    this.#ranks = ranksPerWorker(recipe, "linear", worldSize);
    this.#loop = new TrainingLoop(context);
    this.#check = openNumberCheck(context, () => this.#loop.progress.step + 1);
    this.#predictions = new Int32Array(recipe.linear.classes ** 2);
    const { model, restored } = openModel(engine, context);
    this.#model = model;
    this.#loop.progress.restore(restored.beside.scalars);
    this.#validatedStep = restored.beside.scalars[VALIDATED] ?? 0;
    const sizes = this.#model.parameters.map(({ shape }) => elementCount(shape));
    const elements = sizes.reduce((sum, size) => sum + size, 0);
    this.#shared = context.group.allocate(elements + SUMS);
    let at = 0;
    this.#gradients = sizes.map((size) => {
      at += size;
      return this.#shared.subarray(at - size, at);
    });
  }

  run(batches: BatchReader): StageResult | undefined {
    this.#validateIfDue();
    this.#loop.run(batches, {
      model: this.#model,
      replicaCheck: new ReplicaCheck(this.#engine, this.#context, () => this.#held()),
      train: (batch, lr) => this.#step(batch, lr),
      afterStep: () => this.#validateIfDue(),
      beside: () => ({ scalars: { [VALIDATED]: this.#validatedStep } }),
    });
    return this.#result();
  }

  *#held(): HeldTensors {
    yield* this.#model.frozen;
    for (const { weight, velocity } of this.#model.parameters) yield* [weight, velocity];
  }

  /** Not again what an earlier generation has done; but what it was stopped before or during. */
  #validateIfDue(): void {
    const { progress, stepsPerEpoch } = this.#loop;
    const interval = this.#context.job.recipe.linear.validation.everyEpochs * stepsPerEpoch;
    const { step, stepsTotal } = progress;
    const isDue = step > 0 && (step === stepsTotal || step % interval === 0);
    if (isDue && step !== this.#validatedStep) this.#validate();
  }

  #step(batch: Batch, lr: number): ReturnType<StageSteps["train"]> {
    const { clock } = this.#loop;
    const { job, group } = this.#context;
    const images = batch.count * group.worldSize;
    this.#shared.set([0, Number(isStopWanted(job))], this.#shared.length - SUMS);
    for (const [index, part] of microBatches(batch, this.#ranks).entries()) {
      this.#forwardBackward(part, { images, isFirst: index === 0 });
    }
    this.#checkOwn();
    clock.end("backward");
    groupFor(this.#context, "gradients").allReduce(this.#shared).wait();
    const loss = this.#shared.at(LOSS)! / images;
    clock.end("reduce");
    const where = { rank: job.rank, step: batch.step + 1, what: "loss is" };
    assertFiniteNumbers(Float32Array.of(loss), where);
    for (const [index, parameter] of this.#model.parameters.entries()) {
      const options = updateOptions(job.recipe.linear.optimizer, parameter, lr, 1);
      this.#engine.update(parameter.weight, parameter.velocity, this.#gradients[index]!, options);
    }
    clock.end("update");
    return { loss, isStopWanted: this.#shared.at(STOP)! > 0 };
  }

  /**
   * Puts a micro-batch's part of the gradient and of the loss into the shared buffer.
   * @param step.images of the global batch
   * @param step.isFirst in this step; the others add to it
   */
  #forwardBackward(
    batch: MicroBatch,
    step: { readonly images: number; readonly isFirst: boolean },
  ): void {
    const engine = this.#engine;
    const { clock } = this.#loop;
    engine.scope(() => {
      const images = uploadImages(engine, batch, this.#context.job.recipe.data);
      const features = this.#model.forwardFeatures(images);
      const logits = this.#model.forwardLogits(features);
      clock.end("forward");
      const scale = 1 / step.images;
      const { lossSum, dLogits } = engine.softmaxCrossEntropy(logits, batch.labels, scale);
      clock.end("loss");
      for (const [index, gradient] of this.#model.backward(features, dLogits).entries()) {
        sumGradient(engine, gradient, this.#gradients[index]!, step);
      }
      this.#shared[this.#shared.length + LOSS]! += lossSum;
      clock.end("backward");
    });
  }

  /** Before the other ranks see them: the loss and the gradients of this one. */
  #checkOwn(): void {
    this.#check(this.#shared.subarray(-SUMS), "loss is");
    for (const [index, { name }] of this.#model.parameters.entries()) {
      this.#check(this.#gradients[index]!, `the gradient of ${name} is`);
    }
  }

  #validate(): void {
    const accuracy = validate(
      this.#engine,
      this.#context,
      this.#model,
      this.#validation,
      this.#predictions,
    );
    this.#accuracy = accuracy;
    const { log, send, job } = this.#context;
    const { progress, stepsPerEpoch } = this.#loop;
    send({ type: "validated", top1: accuracy.top1, top5: accuracy.top5 });
    // An earlier generation has written it down, and was stopped before it could tell the result.
    if (this.#validatedStep === progress.step) return;
    this.#validatedStep = progress.step;
    log.write({
      stage: job.stage,
      epoch: progress.step / stepsPerEpoch,
      step: progress.step,
      "accuracy/top1": accuracy.top1,
      "accuracy/top5": accuracy.top5,
      validation_images: accuracy.images,
    });
  }

  #result(): StageResult | undefined {
    // Of a validation in an earlier generation only the line in the log is left.
    if (!this.#accuracy) this.#validate();
    const { group, send } = this.#context;
    const predictions = sumPredictions(group, this.#predictions);
    if (group.rank === 0) send({ type: "predictions", counts: predictions });
    const result = this.#loop.progress.result();
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

/** The model as an earlier generation has left it, else rank 0's backbone plus a fresh head. */
function openModel(
  engine: Engine,
  context: StageContext,
): { readonly model: LinearModel; readonly restored: Restored } {
  const { job, group, send } = context;
  const { model: recipe, seed, linear } = job.recipe;
  if (job.source.type !== "initial") {
    const blank = new LinearModel(engine, recipe, blankState(planLinear(recipe, linear.classes)));
    return { model: blank, restored: restoreState(context, blank) };
  }
  const state = initialState(recipe, "linear", seed, linear.classes);
  const model = new LinearModel(engine, recipe, state);
  if (job.backboneFrom !== undefined) {
    const { loaded, notice } = withBackbone(state, job.backboneFrom, job.recipe);
    model.importState(loaded);
    send({ type: "notice", message: notice });
  }
  broadcastState(group, model, 0);
  return { model, restored: restoreState(context, model) };
}

/** The state with the backbone in `path`; the neck or head there stays behind. */
function withBackbone(
  state: ModelState,
  path: string,
  { model, linear }: Recipe,
): { readonly loaded: ModelState; readonly notice: string } {
  const weights = readWeights(path);
  const plan = planLinear(model, linear.classes).tensors;
  const backbone = plan.filter(({ name }) => name.startsWith("backbone."));
  const { tensors, match } = naming(path, () => loadWeights(weights, backbone, model));
  return {
    loaded: {
      tensors: new Map([...state.tensors, ...tensors]),
      batchesTracked: weights.batchesTracked,
    },
    notice: `backbone of ${path}: ${describeMatch(match)}`,
  };
}
