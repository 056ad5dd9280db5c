/** Batch norm of the reference engine: of one input, or of two that are added. */

import type {
  BatchNormSaved,
  BatchNormTrainOptions,
  BatchReducer,
  Moments,
} from "../../worker/engine/engine.ts";
import { reduceMoments, reduceSums } from "../../worker/engine/joined-norms.ts";
import { channelIndex, channelSums, momentsOf, Values } from "./reference-kernels.ts";

export interface Affine {
  readonly weight: Values;
  readonly bias: Values;
}

/** What the backward knows of an input. */
interface InputState {
  readonly xHat: Values;
  readonly weight: Values;
  readonly deviation_C: Float64Array;
}

export interface NormState extends BatchNormSaved {
  readonly inputs: readonly InputState[];
  readonly y: Values;
  /** Values per channel that the statistics were taken over. */
  readonly count: number;
  readonly options: BatchNormTrainOptions;
}

/** Mean and deviation of each input's channels, over the gang where there is a reducer. */
export function statisticsOf(
  inputs: readonly Values[],
  eps: number,
  reducer: BatchReducer | undefined,
) {
  const exact = inputs.map(({ shape, data }) => momentsOf(shape, data));
  const own = exact.map(
    ({ mean_C, variance_C }, k): Moments => ({
      mean: Float32Array.from(mean_C),
      variance: Float32Array.from(variance_C),
      count: inputs[k]!.data.length / mean_C.length,
    }),
  );
  const moments = reduceMoments(own, reducer);
  return exact.map(({ mean_C, variance_C }, k) => {
    // What comes from the gang is rounded; a worker's own statistics need not be.
    const { mean, variance } = moments[k]!;
    const variances = reducer ? Float64Array.from(variance) : variance_C;
    return {
      mean_C: reducer ? Float64Array.from(mean) : mean_C,
      deviation_C: variances.map((v) => Math.sqrt(v + eps)),
      moments: moments[k]!,
    };
  });
}

/** (x - mean) / deviation */
export function normalised(
  { shape, data }: Values,
  { mean_C, deviation_C }: { readonly mean_C: Float64Array; readonly deviation_C: Float64Array },
): Float64Array {
  const channel = channelIndex(shape);
  return data.map((v, k) => (v - mean_C[channel(k)]!) / deviation_C[channel(k)]!);
}

/** Adds up the inputs' xHat weight + bias and the residual, and rectifies the sum. */
export function combine(
  inputs: readonly (Affine & { readonly xHat: Values })[],
  { relu, residual }: { readonly relu: boolean; readonly residual: Values | undefined },
): Float64Array {
  const { shape, data } = inputs[0]!.xHat;
  const channel = channelIndex(shape);
  return data.map((_, k) => {
    const c = channel(k);
    const start = residual?.data[k] ?? 0;
    const value = inputs.reduce(
      (sum, { xHat, weight, bias }) => sum + xHat.data[k]! * weight.data[c]! + bias.data[c]!,
      start,
    );
    return relu ? Math.max(0, value) : value;
  });
}

/** @returns for each input its gradients, and what reaches whatever was added */
export function normGradients(
  dy: Values,
  { inputs, y, count, options }: NormState,
  reducer: BatchReducer | undefined,
) {
  const { shape } = dy;
  const channel = channelIndex(shape);
  const channels = shape[1]!;
  const incoming = dy.data.map((d, k) => (options.relu && y.data[k]! <= 0 ? 0 : d));
  const own = inputs.map(({ xHat }) => ({
    dBias: channelSums(shape, (k) => incoming[k]!),
    dWeight: channelSums(shape, (k) => incoming[k]! * xHat.data[k]!),
  }));
  const rounded = own.map(({ dBias, dWeight }) => Float32Array.from([...dBias, ...dWeight]));
  const totals = reducer
    ? reduceSums(rounded, reducer)
    : own.map(({ dBias, dWeight }) => [...dBias, ...dWeight]);
  const gradients = inputs.map(({ xHat, weight, deviation_C }, n) => {
    const dx = incoming.map((d, k) => {
      const c = channel(k);
      const [sumDy, sumDyXHat] = [totals[n]![c]!, totals[n]![channels + c]!];
      const centred = d - sumDy / count - (xHat.data[k]! * sumDyXHat) / count;
      return (weight.data[c]! / deviation_C[c]!) * centred;
    });
    return { dx, ...own[n]! };
  });
  return { gradients, incoming };
}

/** That the caller may free what it passed in and what it got. */
export function copyOf({ shape, data }: Values): Values {
  return new Values(shape, data.slice());
}
