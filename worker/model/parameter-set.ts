/** The tensors that a stage trains, on the engine's device, each with its momentum buffer. */

import { elementCount, type TensorSpec } from "../../proto/model/model-plan.ts";
import type { Engine, Tensor } from "../engine/engine.ts";
import { type Allocate, checkTensors, type HostTensor, type NamedTensors } from "./model-state.ts";

export interface Parameter extends TensorSpec {
  readonly weight: Tensor;
  /** Momentum; zeros until the first update. Of the weight's shape. */
  readonly velocity: Tensor;
}

export class ParameterSet {
  readonly #engine: Engine;
  readonly #index: ReadonlyMap<string, number>;
  /** In state_dict order. */
  readonly list: readonly Parameter[];

  /** @param values holds at least the tensors of `specs`; others are left aside */
  constructor(engine: Engine, specs: readonly TensorSpec[], values: NamedTensors) {
    this.#engine = engine;
    this.#index = new Map(specs.map(({ name }, index) => [name, index]));
    this.list = specs.map((spec) => ({
      ...spec,
      weight: engine.upload(values.get(spec.name)!.data, spec.shape),
      velocity: engine.upload(new Float32Array(elementCount(spec.shape)), spec.shape),
    }));
  }

  indexOf(name: string): number {
    return this.#index.get(name)!;
  }

  weight(name: string): Tensor {
    return this.list[this.indexOf(name)]!.weight;
  }

  assignWeights(values: NamedTensors): void {
    for (const { name, weight } of this.list) {
      this.#engine.assign(weight, values.get(name)!.data);
    }
  }

  exportWeights(allocate?: Allocate): Map<string, HostTensor> {
    return this.#download("weight", allocate);
  }

  /** Momentum buffers by the name of their parameter. */
  exportVelocities(allocate?: Allocate): Map<string, HostTensor> {
    return this.#download("velocity", allocate);
  }

  /** @throws {FleetError} CHECKPOINT_INVALID when `values` are not those of this model */
  importVelocities(values: NamedTensors): void {
    checkTensors(values, this.list, "momentum");
    for (const { name, velocity } of this.list) {
      this.#engine.assign(velocity, values.get(name)!.data);
    }
  }

  close(): void {
    for (const { weight, velocity } of this.list) this.#engine.release(weight, velocity);
  }

  #download(what: "weight" | "velocity", allocate?: Allocate): Map<string, HostTensor> {
    return new Map(
      this.list.map((parameter) => {
        const { name, shape } = parameter;
        const target = allocate?.(elementCount(shape));
        return [name, { shape, data: this.#engine.download(parameter[what], target) }];
      }),
    );
  }
}
