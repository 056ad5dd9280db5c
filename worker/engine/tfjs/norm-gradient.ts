/** Per-channel arithmetic of batch norm's backward, in float64. */

export interface NormState {
  /** weight / deviation */
  readonly scale_C: Float64Array;
  /** 1 / deviation */
  readonly inverse_C: Float64Array;
  /** What `centred` lacks to x - mean. */
  readonly shift_C: Float64Array;
  /** Values per channel that the statistics were taken over. */
  readonly count: number;
}

/** Sums over one worker's values: dy in the first half, dy xHat in the second. */
export function localSums(
  { inverse_C, shift_C }: NormState,
  sumDy_C: ArrayLike<number>,
  sumDyCentred_C: ArrayLike<number>,
): Float32Array {
  const channels = inverse_C.length;
  const sums = new Float32Array(2 * channels);
  for (let c = 0; c < channels; c++) {
    sums[c] = sumDy_C[c]!;
    sums[channels + c] = inverse_C[c]! * (sumDyCentred_C[c]! + shift_C[c]! * sumDy_C[c]!);
  }
  return sums;
}

/**
 * With xHat = inverse (centred + shift) and means over the gang's batch,
 * dx = scale (dy - mean(dy) - xHat mean(dy xHat)) = scale dy + slope centred + offset.
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
