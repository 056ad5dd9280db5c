/**
 * Linear evaluation: a classifier on the average-pooled features of a backbone that never changes.
 */

import { type ModelPlan, planLinear } from "../../proto/model/model-plan.ts";
import type { ModelRecipe } from "../../proto/recipe.ts";
import type { Engine, Tensor } from "../engine/engine.ts";
import { inferFeatures } from "./frozen-backbone.ts";
import {
  type Allocate,
  checkTensors,
  type HostTensor,
  type ModelState,
  type NamedTensors,
} from "./model-state.ts";
import { type Parameter, ParameterSet } from "./parameter-set.ts";

const WEIGHT = "head.fc.weight";
const BIAS = "head.fc.bias";

export class LinearModel {
  readonly #engine: Engine;
  readonly #recipe: ModelRecipe;
  readonly #plan: ModelPlan;
  readonly #parameters: ParameterSet;
  /** The backbone's weights and running statistics. */
  readonly #frozen: ReadonlyMap<string, Tensor>;
  #state: ModelState;

  /**
   * Takes the number of classes from `state`, which must not change any more. Uploads it outside of
   * any scope that ends before {@link close}.
   * @throws {FleetError} CHECKPOINT_INVALID when `state` does not fit the recipe
   */
  constructor(engine: Engine, recipe: ModelRecipe, state: ModelState) {
    this.#engine = engine;
    this.#recipe = recipe;
    this.#plan = planLinear(recipe, state.tensors.get(WEIGHT)?.shape[0] ?? 0);
    checkTensors(state.tensors, this.#plan.tensors, "model state");
    this.#parameters = new ParameterSet(engine, this.#plan.trained, state.tensors);
    this.#frozen = new Map(
      [...state.tensors]
        .filter(([name]) => name.startsWith("backbone."))
        .map(([name, { data, shape }]) => [name, engine.upload(data, shape)]),
    );
    this.#state = state;
  }

  /** Weight and bias of the classifier. */
  get parameters(): readonly Parameter[] {
    return this.#parameters.list;
  }

  /** The backbone's weights and running statistics, on the device. */
  get frozen(): Iterable<Tensor> {
    return this.#frozen.values();
  }

  /** Images [N, 3, H, W] to features [N, F], in eval mode; the caller frees them. */
  forwardFeatures(images: Tensor): Tensor {
    const pass = {
      engine: this.#engine,
      eps: this.#recipe.normEps,
      tensorOf: (name: string): Tensor => this.#frozen.get(name)!,
    };
    return inferFeatures(pass, this.#plan.backbone, images);
  }

  /** Features [N, F] to logits [N, K]; the caller frees them. */
  forwardLogits(features: Tensor): Tensor {
    return this.#engine.linear(
      features,
      this.#parameters.weight(WEIGHT),
      this.#parameters.weight(BIAS),
    );
  }

  /** Gradients of {@link parameters}, in their order, from that of the logits [N, K]. */
  backward(features: Tensor, dLogits: Tensor): readonly [Tensor, Tensor] {
    return [
      this.#engine.linearBackwardWeight(features, dLogits),
      this.#engine.linearBackwardBias(dLogits),
    ];
  }

  /** A snapshot of backbone and classifier; the classifier in memory that is given. */
  exportState(allocate?: Allocate): ModelState {
    const head = this.#parameters.exportWeights(allocate);
    const { tensors, batchesTracked } = this.#state;
    const merged = this.#plan.tensors.map(({ name }): [string, HostTensor] => [
      name,
      head.get(name) ?? tensors.get(name)!,
    ]);
    return { tensors: new Map(merged), batchesTracked };
  }

  /** @throws {FleetError} CHECKPOINT_INVALID when `state` does not fit the recipe */
  importState(state: ModelState): void {
    checkTensors(state.tensors, this.#plan.tensors, "model state");
    this.#parameters.assignWeights(state.tensors);
    for (const [name, tensor] of this.#frozen) {
      this.#engine.assign(tensor, state.tensors.get(name)!.data);
    }
    this.#state = state;
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
    this.#engine.release(...this.#frozen.values());
  }
}
