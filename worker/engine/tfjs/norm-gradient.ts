/** Per-channel arithmetic of batch norm's backward, in float64. */

export interface NormState {
  /** weight / deviation */
  readonly scale_C: Float64Array;
  /** 1 / deviation */
  readonly inverse_C: Float64Array;
  /** What the kept values lack to x - mean: -mean when x itself was kept, else 0. */
  readonly shift_C: Float64Array;
  /** Values per channel that the statistics were taken over. */
  readonly count: number;
}

/**
 * Sums over one worker's values: dy in the first half, dy xHat in the second.
 * @param sumDyKept_C sums of dy times the kept values
 */
export function localSums(
  { inverse_C, shift_C }: NormState,
  sumDy_C: ArrayLike<number>,
  sumDyKept_C: ArrayLike<number>,
): Float32Array {
  const channels = inverse_C.length;
  const sums = new Float32Array(2 * channels);
  for (let c = 0; c < channels; c++) {
    sums[c] = sumDy_C[c]!;
    sums[channels + c] = inverse_C[c]! * (sumDyKept_C[c]! + shift_C[c]! * sumDy_C[c]!);
  }
  return sums;
}

/**
 * With xHat = inverse (kept + shift) and means over the gang's batch,
 * dx = scale (dy - mean(dy) - xHat mean(dy xHat)) = scale dy + slope kept + offset.
 *
 * @param sums {@link localSums}, summed over the gang
 */
export function inputGradient(
  { scale_C, inverse_C, shift_C, count }: NormState,
  sums: Float32Array,
): { readonly slope_C: Float64Array; readonly offset_C: Float64Array } {
  const channels = scale_C.length;
  const slope_C = scale_C.map((s, c) => (-s * inverse_C[c]! * sums[channels + c]!) / count);
  const offset_C = scale_C.map((s, c) => slope_C[c]! * shift_C[c]! - (s * sums[c]!) / count);
  return { slope_C, offset_C };
}
