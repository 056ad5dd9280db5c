/**
 * SimCLR's model in training: backbone and projection neck, with their state on the device.
 *
 * A step is `forwardTrain`, `backward`, updates of the parameters, `commitStatistics`. Until the
 * updates nothing has changed, so a step that is given up before them leaves the state as it was.
 * Inside {@link Engine.scope} such a step frees its tensors, too.
 */

import assert from "node:assert/strict";
import { type ModelPlan, planPretrain } from "../../proto/model/model-plan.ts";
import type { ModelRecipe } from "../../proto/recipe.ts";
import type { BatchReducer, Engine, Moments, Tensor } from "../engine/engine.ts";
import { type BackboneTape, backwardBackbone, forwardBackbone } from "./backbone.ts";
import { inferFeatures } from "./frozen-backbone.ts";
import {
  type Allocate,
  checkTensors,
  type HostTensor,
  type ModelState,
  type NamedTensors,
} from "./model-state.ts";
import type { NormMoments } from "./norm-moments.ts";
import {
  type BackwardPass,
  backwardLayer,
  type ForwardPass,
  forwardLayer,
  type LayerTape,
  linearNormLayer,
} from "./normed-layer.ts";
import { type Parameter, ParameterSet } from "./parameter-set.ts";
import { updateStatistics } from "./running-statistics.ts";

/**
 * Takes the gradient of `parameters[parameterIndex]`; the tensor is freed when the call returns.
 * Indices come in strictly falling order, each exactly once.
 */
export type GradientSink = (parameterIndex: number, gradient: Tensor) => void;

interface Tape {
  readonly backbone: BackboneTape;
  readonly fc0: LayerTape;
  readonly fc1: LayerTape;
  readonly z: Tensor;
  readonly reducer: BatchReducer | undefined;
}

const FC0 = linearNormLayer("neck.fc0", "neck.bn0");
const FC1 = linearNormLayer("neck.fc1", "neck.bn1");

export class PretrainModel {
  readonly #engine: Engine;
  readonly #recipe: ModelRecipe;
  readonly #plan: ModelPlan;
  readonly #parameters: ParameterSet;
  /** Running means and variances. */
  #statistics = new Map<string, HostTensor>();
  #batchesTracked = 0;
  #tape: Tape | undefined;
  /** Batch statistics of the forward that is not committed yet. */
  #moments: NormMoments = new Map();

  /**
   * Uploads `state` outside of any scope that ends before {@link close}.
   * @throws {FleetError} CHECKPOINT_INVALID when `state` does not fit the recipe
   */
  constructor(engine: Engine, recipe: ModelRecipe, state: ModelState) {
    this.#engine = engine;
    this.#recipe = recipe;
    this.#plan = planPretrain(recipe);
    checkTensors(state.tensors, this.#plan.tensors, "model state");
    this.#parameters = new ParameterSet(engine, this.#plan.trained, state.tensors);
    this.#takeStatistics(state);
  }

  /** In state_dict order. */
  get parameters(): readonly Parameter[] {
    return this.#parameters.list;
  }

  /** Width of the pooled features. */
  get features(): number {
    return this.#plan.backbone.features;
  }

  /** Running means and variances, in the model's order; only to be read. */
  get statistics(): readonly HostTensor[] {
    return this.#plan.tensors.flatMap(({ name }) => this.#statistics.get(name) ?? []);
  }

  /** Steps committed so far: every norm's `num_batches_tracked`. */
  get batchesTracked(): number {
    return this.#batchesTracked;
  }

  /**
   * Encodes a batch, images [2n, 3, H, W], with batch statistics: of the gang where a reducer is
   * given.
   *
   * @returns pooled features [2n, F] and embeddings z [2n, D], not normalised. Both are the model's
   *   and live until {@link backward}, as the images must.
   */
  forwardTrain(
    images: Tensor,
    reducer?: BatchReducer,
  ): { readonly features: Tensor; readonly z: Tensor } {
    const moments = new Map<string, Moments>();
    const pass: ForwardPass = {
      engine: this.#engine,
      eps: this.#recipe.normEps,
      reducer,
      weightOf: (name) => this.#parameters.weight(name),
      keepMoments: (norm, batch) => moments.set(norm, batch),
    };
    const { features, tape } = forwardBackbone(pass, this.#plan.backbone, images);
    const hidden = forwardLayer(pass, FC0, features, { relu: true });
    const projected = forwardLayer(pass, FC1, hidden.y, { relu: false });
    const z = projected.y;
    this.#tape = { backbone: tape, fc0: hidden.tape, fc1: projected.tape, z, reducer };
    this.#moments = moments;
    return { features, z };
  }

  /**
   * Differentiates the last {@link forwardTrain}, with its reducer, and frees its activations.
   * @param dz [2n, D], gradient with respect to z; stays the caller's
   */
  backward(dz: Tensor, onGradient: GradientSink): void {
    assert.ok(this.#tape, "backward follows a forwardTrain");
    const { backbone, fc0, fc1, z, reducer } = this.#tape;
    this.#tape = undefined;
    const engine = this.#engine;
    const pass: BackwardPass = {
      engine,
      reducer,
      weightOf: (name) => this.#parameters.weight(name),
      deliver: (name, gradient) => {
        onGradient(this.#parameters.indexOf(name), gradient);
        engine.release(gradient);
      },
    };
    engine.release(z);
    const dHidden = backwardLayer(pass, fc1, dz);
    engine.release(fc1.input);
    const dFeatures = backwardLayer(pass, fc0, dHidden);
    engine.release(dHidden, fc0.input);
    backwardBackbone(pass, backbone, dFeatures);
  }

  /** Batch statistics of the last {@link forwardTrain}, until they are committed. */
  get batchMoments(): NormMoments {
    return this.#moments;
  }

  /** Forgets the last {@link forwardTrain}: its activations are the caller's to free. */
  dropActivations(): void {
    this.#tape = undefined;
  }

  /**
   * Folds batch statistics into the running ones, once a step: those of the last
   * {@link forwardTrain}, unless the step has seen more than that.
   */
  commitStatistics(batch: NormMoments = this.#moments): void {
    assert.ok(this.#moments.size > 0, "statistics are committed once after a forwardTrain");
    for (const [norm, moments] of batch) {
      const momentum = this.#recipe.normMomentum;
      for (const [name, tensor] of updateStatistics(this.#statistics, norm, moments, momentum)) {
        this.#statistics.set(name, tensor);
      }
    }
    this.#moments = new Map();
    this.#batchesTracked += 1;
  }

  /** Pooled features [N, F] in eval mode, with the running statistics; the caller frees them. */
  evalFeatures(images: Tensor): Tensor {
    return this.#engine.scope(() => this.openEval()(images));
  }

  /**
   * Uploads the running statistics for many batches.
   * @returns what {@link evalFeatures} does, for as long as the scope lasts and no step is made
   */
  openEval(): (images: Tensor) => Tensor {
    const engine = this.#engine;
    const statistics = new Map(
      [...this.#statistics].map(([name, { data, shape }]) => [name, engine.upload(data, shape)]),
    );
    const tensorOf = (name: string): Tensor =>
      statistics.get(name) ?? this.#parameters.weight(name);
    const pass = { engine, eps: this.#recipe.normEps, tensorOf };
    return (images) => inferFeatures(pass, this.#plan.backbone, images);
  }

  /** A snapshot of weights and running statistics; the weights in memory that is given. */
  exportState(allocate?: Allocate): ModelState {
    const weights = this.#parameters.exportWeights(allocate);
    const tensors = this.#plan.tensors.map(({ name }): [string, HostTensor] => [
      name,
      weights.get(name) ?? this.#statistics.get(name)!,
    ]);
    return { tensors: new Map(tensors), batchesTracked: this.#batchesTracked };
  }

  /** @throws {FleetError} CHECKPOINT_INVALID when `state` does not fit the recipe */
  importState(state: ModelState): void {
    checkTensors(state.tensors, this.#plan.tensors, "model state");
    this.#parameters.assignWeights(state.tensors);
    this.#takeStatistics(state);
  }

  /** Copies of the momentum buffers, by the name of their parameter. */
  exportVelocities(allocate?: Allocate): NamedTensors {
    return this.#parameters.exportVelocities(allocate);
  }

  /** @throws {FleetError} CHECKPOINT_INVALID when `velocities` are not those of this model */
  importVelocities(velocities: NamedTensors): void {
    this.#parameters.importVelocities(velocities);
  }

  /** Frees the state on the device. */
  close(): void {
    this.#parameters.close();
  }

  #takeStatistics({ tensors, batchesTracked }: ModelState): void {
    const isStatistic = (name: string): boolean => /\.running_(mean|var)$/.test(name);
    this.#statistics = new Map(
      [...tensors]
        .filter(([name]) => isStatistic(name))
        .map(([name, { shape, data }]) => [name, { shape, data: data.slice() }]),
    );
    this.#batchesTracked = batchesTracked;
    this.#moments = new Map();
    this.#tape = undefined;
  }
}
