/** Between bytes in memory and lanes of 32 bits. */

/** Four 8-bit values, widened, of the sixteen at `at`; `quarter` counts from 0. */
export function loadFour(at: usize, quarter: i32): v128 {
  const four = v128.load32_zero(at + ((<usize>quarter) << 2));
  return i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(four));
}

/** Four 32-bit integers, clipped to 8 bits and written to a quarter of the sixteen at `at`. */
export function storeFour(at: usize, quarter: i32, values: v128): void {
  const narrow = i16x8.narrow_i32x4_s(values, values);
  const bytes = i8x16.narrow_i16x8_u(narrow, narrow);
  v128.store_lane<u32>(at + ((<usize>quarter) << 2), bytes, 0);
}

/** The upper two lanes of four, moved to the lower two. */
export function upperHalf(four: v128): v128 {
  return i8x16.shuffle(four, four, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
}

/**
 * Four non-negative float32 below 2^22 to integers, cut off. Adding 2^23 leaves no bits for a
 * fraction, so the integer stands in the mantissa; the conversion instruction takes longer, because
 * it has to care for numbers out of range.
 */
export function truncateFour(values: v128): v128 {
  const aligned = f32x4.add(f32x4.trunc(values), f32x4.splat(8388608));
  return v128.and(aligned, i32x4.splat(0x7fffff));
}

/** The same of two times two float64, with 2^52. */
export function truncateTwice(low: v128, high: v128): v128 {
  const magic = f64x2.splat(4503599627370496);
  const lower = f64x2.add(f64x2.trunc(low), magic);
  const upper = f64x2.add(f64x2.trunc(high), magic);
  return i8x16.shuffle(lower, upper, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
}
