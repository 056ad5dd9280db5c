/**
 * A linear classifier on the pooled features of the training views, trained beside the model.
 *
 * It takes the features as they are and gives no gradient back, so that the model does not know of
 * it; its sums over the gang travel apart from the model's, which keeps theirs to the bit. After
 * the SimCLR authors' `lineareval_while_pretraining` (tf2/model.py) and lightly's
 * OnlineLinearClassifier: both views of an image, momentum SGD without decay at 0.3 per 256 images,
 * on the schedule of the pre-training.
 */

import { elementCount, type TensorSpec } from "../../proto/model/model-plan.ts";
import type { MonitorRecipe } from "../../proto/recipe.ts";
import type { ProcessGroup, SharedFloats, Work } from "../collective/process-group.ts";
import type { Engine, Tensor } from "../engine/engine.ts";
import {
  type Allocate,
  checkTensors,
  type HostTensor,
  type NamedTensors,
} from "../model/model-state.ts";
import { ParameterSet } from "../model/parameter-set.ts";
import { countHits, type Hits } from "./hits.ts";
import { sumGradient } from "./micro-batches.ts";
import type { ProbeStep } from "./stage-job.ts";

const MOMENTUM = ".momentum";
/** After the gradients: sum of the loss over the rank's rows, and rows that were right. */
const SUMS = 2;

export interface OnlineProbeOptions {
  /** F */
  readonly features: number;
  /** K */
  readonly classes: number;
  readonly recipe: MonitorRecipe["probe"];
}

export class OnlineProbe {
  readonly #engine: Engine;
  readonly #group: ProcessGroup;
  readonly #options: OnlineProbeOptions;
  readonly #specs: readonly TensorSpec[];
  readonly #parameters: ParameterSet;
  /** Gradients one after the other, then {@link SUMS}: one all-reduce. */
  readonly #shared: SharedFloats;
  #work: Work | undefined;
  /** Views of the gang in a step. */
  #rows = 0;
  /** That have been added up in this step. */
  #batches = 0;

  /** Starts from zeros. Called by all ranks. */
  constructor(engine: Engine, group: ProcessGroup, options: OnlineProbeOptions) {
    const { features, classes } = options;
    this.#engine = engine;
    this.#group = group;
    this.#options = options;
    this.#specs = [
      { name: "fc.weight", shape: [classes, features], role: "classifier" },
      { name: "fc.bias", shape: [classes], role: "bias" },
    ];
    this.#parameters = new ParameterSet(engine, this.#specs, zeros(this.#specs));
    this.#shared = group.allocate(classes * features + classes + SUMS);
  }

  /** Features [N, F] to logits [N, K], which the caller frees. */
  logits(features: Tensor): Tensor {
    const [weight, bias] = this.#parameters.list;
    return this.#engine.linear(features, weight!.weight, bias!.weight);
  }

  /**
   * Computes the gradient of a training batch and adds it to those of the step's batches before;
   * the last one starts their sum over the gang.
   *
   * @param features [2n, F] of interleaved views; only read
   * @param labels [n]
   * @param batches of as many images that this worker has in a step
   */
  backward(features: Tensor, labels: Int32Array, batches: number): void {
    const engine = this.#engine;
    const { classes } = this.#options;
    const isFirst = this.#batches === 0;
    const ofViews = Int32Array.from({ length: 2 * labels.length }, (_, row) => labels[row >> 1]!);
    const hits: Hits = { images: 0, top1: 0, top5: 0 };
    const shared = this.#shared;
    this.#rows = ofViews.length * batches * this.#group.worldSize;
    engine.scope(() => {
      const logits = this.logits(features);
      const { lossSum, dLogits } = engine.softmaxCrossEntropy(logits, ofViews, 1 / this.#rows);
      countHits(engine.download(logits), ofViews, classes, hits);
      const weights = classes * this.#options.features;
      const dWeight = engine.linearBackwardWeight(features, dLogits);
      const dBias = engine.linearBackwardBias(dLogits);
      sumGradient(engine, dWeight, shared.subarray(0, weights), { isFirst });
      sumGradient(engine, dBias, shared.subarray(weights, -SUMS), { isFirst });
      const [lossBefore, hitsBefore] = isFirst ? [0, 0] : shared.subarray(-SUMS);
      shared.set([lossBefore! + lossSum, hitsBefore! + hits.top1], shared.length - SUMS);
    });
    this.#batches += 1;
    if (this.#batches === batches) this.#work = this.#group.allReduce(shared);
  }

  /**
   * Waits for the sum.
   * @throws {FleetError} GENERATION_ABORTED
   */
  finish(): void {
    this.#work?.wait();
    this.#work = undefined;
    this.#batches = 0;
  }

  /**
   * Moves the weights by the sum that {@link finish} has waited for.
   *
   * @param lr for a global batch of 256 images
   * @returns figures of the gang's batch from before the update; undefined when the classifier ran
   *   away and begins anew
   */
  update(lr: number): ProbeStep | undefined {
    const [lossSum, right] = this.#shared.subarray(-SUMS) as Float32Array;
    const loss = lossSum! / this.#rows;
    if (!Number.isFinite(loss)) {
      this.#reset();
      return undefined;
    }
    const images = this.#rows / 2;
    let at = 0;
    for (const { weight, velocity, shape } of this.#parameters.list) {
      const gradient = this.#shared.subarray(at, at + elementCount(shape));
      at += gradient.length;
      this.#engine.update(weight, velocity, gradient, {
        lr: (lr * images) / 256,
        momentum: this.#options.recipe.momentum,
        weightDecay: 0,
        nesterov: false,
        gradientScale: 1,
      });
    }
    return { loss, top1: (100 * right!) / this.#rows };
  }

  /** Copies of weights and momentum. */
  exportState(allocate?: Allocate): NamedTensors {
    const momentum = [...this.#parameters.exportVelocities(allocate)].map(
      ([name, tensor]): [string, HostTensor] => [name + MOMENTUM, tensor],
    );
    return new Map([...this.#parameters.exportWeights(allocate), ...momentum]);
  }

  /**
   * Takes over what {@link exportState} gave.
   * @throws {FleetError} CHECKPOINT_INVALID when it is of other classes or features
   */
  importState(state: NamedTensors): void {
    const momentum = this.#specs.map((spec) => ({ ...spec, name: spec.name + MOMENTUM }));
    checkTensors(state, [...this.#specs, ...momentum], "the probe");
    this.#parameters.assignWeights(state);
    this.#parameters.importVelocities(
      new Map(this.#specs.map(({ name }) => [name, state.get(name + MOMENTUM)!])),
    );
  }

  #reset(): void {
    for (const { weight, velocity, shape } of this.#parameters.list) {
      const zeros = new Float32Array(elementCount(shape));
      this.#engine.assign(weight, zeros);
      this.#engine.assign(velocity, zeros);
    }
  }
}

function zeros(specs: readonly TensorSpec[]): NamedTensors {
  return new Map(
    specs.map(({ name, shape }) => [name, { shape, data: new Float32Array(elementCount(shape)) }]),
  );
}
