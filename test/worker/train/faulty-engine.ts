/** An engine that computes something wrong once, as broken hardware or a defect would. */

import type {
  ContrastiveOptions,
  ContrastiveRows,
  Geometry,
  Tensor,
  UpdateOptions,
} from "../../../worker/engine/engine.ts";
import { ReferenceEngine } from "../../support/reference-engine.ts";

/** What goes wrong: the results of one kind of operation, or a bit of a weight in memory. */
export type FaultKind =
  | "convolution"
  | "convolutionBackwardWeight"
  | "linearBackwardWeight"
  | "contrastiveRows"
  | "contrastiveGradient"
  | "softmaxCrossEntropy"
  | "bit";

export interface Fault {
  readonly kind: FaultKind;
  /** The step in which it strikes, from 1. */
  readonly step: number;
  /** What a result becomes. */
  readonly value: number;
}

export class FaultyEngine extends ReferenceEngine {
  /** The step under way, from 1. */
  step = 0;
  readonly #fault: Fault | undefined;
  #hasStruck = false;

  constructor(fault: Fault | undefined) {
    super();
    this.#fault = fault;
  }

  override convolution(x: Tensor, weight: Tensor, geometry: Geometry): Tensor {
    return this.#spoil("convolution", super.convolution(x, weight, geometry));
  }

  override convolutionBackwardWeight(
    x: Tensor,
    dy: Tensor,
    weightShape: readonly number[],
    geometry: Geometry,
  ): Tensor {
    const dWeight = super.convolutionBackwardWeight(x, dy, weightShape, geometry);
    return this.#spoil("convolutionBackwardWeight", dWeight);
  }

  override linearBackwardWeight(x: Tensor, dy: Tensor): Tensor {
    return this.#spoil("linearBackwardWeight", super.linearBackwardWeight(x, dy));
  }

  override contrastiveRows(
    z_RD: Tensor,
    z_GD: Tensor,
    options: ContrastiveOptions,
  ): ContrastiveRows {
    const rows = super.contrastiveRows(z_RD, z_GD, options);
    if (this.#strikes("contrastiveRows")) rows.logSumExp_R[0] = this.#fault!.value;
    return rows;
  }

  override contrastiveGradient(
    rows: ContrastiveRows,
    z_GD: Tensor,
    logSumExp_G: Float32Array,
    options: ContrastiveOptions,
  ): Tensor {
    const dy = super.contrastiveGradient(rows, z_GD, logSumExp_G, options);
    return this.#spoil("contrastiveGradient", dy);
  }

  override softmaxCrossEntropy(logits: Tensor, labels: Int32Array, scale: number) {
    const { lossSum, dLogits } = super.softmaxCrossEntropy(logits, labels, scale);
    const isWrong = this.#strikes("softmaxCrossEntropy");
    return { lossSum: isWrong ? this.#fault!.value : lossSum, dLogits };
  }

  /** The lowest bit of a weight's fraction, once it is updated. */
  override update(
    weight: Tensor,
    velocity: Tensor,
    gradient: Float32Array,
    options: UpdateOptions,
  ): void {
    super.update(weight, velocity, gradient, options);
    if (!this.#strikes("bit")) return;
    const data = this.download(weight);
    new Int32Array(data.buffer)[0]! ^= 1;
    this.assign(weight, data);
  }

  #spoil(kind: FaultKind, result: Tensor): Tensor {
    if (!this.#strikes(kind)) return result;
    const data = this.download(result);
    data[data.length - 1] = this.#fault!.value;
    this.assign(result, data);
    return result;
  }

  /** Once. */
  #strikes(kind: FaultKind): boolean {
    const { step, kind: own } = this.#fault ?? {};
    if (this.#hasStruck || own !== kind || step !== this.step) return false;
    this.#hasStruck = true;
    return true;
  }
}
