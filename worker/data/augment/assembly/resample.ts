/**
 * The two passes of a resampling, each rounding to 8 bits.
 *
 * Weights have 22 bits of fraction and come in pairs, for two neighbouring input pixels, split into
 * an upper and a lower part of 11 bits: w = 2048 upper + lower. So one instruction multiplies
 * numbers of 16 bits and adds them in twos, and the sum is still exact. A pair takes two words: the
 * two upper parts, then the two lower ones.
 */

const HALF: i32 = 1 << 21;
const PAIR_BYTES: usize = 8;

/** Weighted sums of two parts to 8 bits, still as 32-bit integers. */
function join(upper: v128, lower: v128): v128 {
  const sum = i32x4.add(i32x4.add(i32x4.shl(upper, 11), lower), i32x4.splat(HALF));
  return i32x4.shr_s(sum, 22);
}

/** Red, green, blue and nothing of one output pixel. */
function resamplePixel(at: usize, weights: usize, pairs: i32): v128 {
  let upper = i32x4.splat(0);
  let lower = i32x4.splat(0);
  const zero = i8x16.splat(0);
  for (let pair = 0; pair < pairs; pair++) {
    const bytes = v128.load64_zero(at);
    const values = i8x16.shuffle(
      bytes,
      zero,
      0,
      16,
      3,
      16,
      1,
      16,
      4,
      16,
      2,
      16,
      5,
      16,
      16,
      16,
      16,
      16,
    );
    upper = i32x4.add(upper, i32x4.dot_i16x8_s(values, v128.load32_splat(weights)));
    lower = i32x4.add(lower, i32x4.dot_i16x8_s(values, v128.load32_splat(weights, 4)));
    at += 6;
    weights += PAIR_BYTES;
  }
  return join(upper, lower);
}

/**
 * Across: `rows` rows of interleaved pixels from `source` on become rows of three planes, `width`
 * pixels wide. Takes the output pixels in fours: `first` and `weights` are filled up with zeros.
 *
 * @param first per output pixel, the first input pixel that counts
 */
export function resampleRows(
  source: usize,
  rowBytes: usize,
  rows: i32,
  first: usize,
  weights: usize,
  pairs: i32,
  target: usize,
  width: i32,
  planeBytes: usize,
): void {
  const step = <usize>pairs * PAIR_BYTES;
  for (let row = 0; row < rows; row++) {
    let weightsAt = weights;
    for (let x = 0; x < width; x += 4) {
      const at = first + ((<usize>x) << 2);
      const a = resamplePixel(source + load<u32>(at), weightsAt, pairs);
      const b = resamplePixel(source + load<u32>(at, 4), weightsAt + step, pairs);
      const c = resamplePixel(source + load<u32>(at, 8), weightsAt + 2 * step, pairs);
      const d = resamplePixel(source + load<u32>(at, 12), weightsAt + 3 * step, pairs);
      weightsAt += 4 * step;
      const pixels = i8x16.narrow_i16x8_u(i16x8.narrow_i32x4_s(a, b), i16x8.narrow_i32x4_s(c, d));
      const planes = i8x16.shuffle(
        pixels,
        pixels,
        0,
        4,
        8,
        12,
        1,
        5,
        9,
        13,
        2,
        6,
        10,
        14,
        3,
        7,
        11,
        15,
      );
      const out = target + <usize>x;
      v128.store_lane<u32>(out, planes, 0);
      v128.store_lane<u32>(out + planeBytes, planes, 1);
      v128.store_lane<u32>(out + 2 * planeBytes, planes, 2);
    }
    source += rowBytes;
    target += <usize>width;
  }
}

/**
 * Down: three planes of any height become three of `height` rows.
 *
 * @param first per output row, the offset in the plane of the first input row that counts
 */
export function resampleColumns(
  source: usize,
  sourcePlaneBytes: usize,
  first: usize,
  weights: usize,
  pairs: i32,
  target: usize,
  width: i32,
  height: i32,
  planeBytes: usize,
): void {
  for (let plane = 0; plane < 3; plane++) {
    for (let y = 0; y < height; y++) {
      const rows = source + load<u32>(first + ((<usize>y) << 2));
      const weightsAt = weights + <usize>(y * pairs) * PAIR_BYTES;
      const out = target + <usize>(y * width);
      for (let x: usize = 0; x < <usize>width; x += 16) {
        v128.store(out + x, resampleSixteen(rows + x, <usize>width, weightsAt, pairs));
      }
    }
    source += sourcePlaneBytes;
    target += planeBytes;
  }
}

/** Sixteen neighbouring pixels of an output row. */
function resampleSixteen(at: usize, width: usize, weights: usize, pairs: i32): v128 {
  let upper0 = i32x4.splat(0);
  let upper1 = upper0;
  let upper2 = upper0;
  let upper3 = upper0;
  let lower0 = upper0;
  let lower1 = upper0;
  let lower2 = upper0;
  let lower3 = upper0;
  for (let pair = 0; pair < pairs; pair++) {
    const a = v128.load(at);
    const b = v128.load(at + width);
    const low = i8x16.shuffle(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const high = i8x16.shuffle(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    const values0 = i16x8.extend_low_i8x16_u(low);
    const values1 = i16x8.extend_high_i8x16_u(low);
    const values2 = i16x8.extend_low_i8x16_u(high);
    const values3 = i16x8.extend_high_i8x16_u(high);
    const upper = v128.load32_splat(weights);
    const lower = v128.load32_splat(weights, 4);
    upper0 = i32x4.add(upper0, i32x4.dot_i16x8_s(values0, upper));
    upper1 = i32x4.add(upper1, i32x4.dot_i16x8_s(values1, upper));
    upper2 = i32x4.add(upper2, i32x4.dot_i16x8_s(values2, upper));
    upper3 = i32x4.add(upper3, i32x4.dot_i16x8_s(values3, upper));
    lower0 = i32x4.add(lower0, i32x4.dot_i16x8_s(values0, lower));
    lower1 = i32x4.add(lower1, i32x4.dot_i16x8_s(values1, lower));
    lower2 = i32x4.add(lower2, i32x4.dot_i16x8_s(values2, lower));
    lower3 = i32x4.add(lower3, i32x4.dot_i16x8_s(values3, lower));
    at += 2 * width;
    weights += PAIR_BYTES;
  }
  return i8x16.narrow_i16x8_u(
    i16x8.narrow_i32x4_s(join(upper0, lower0), join(upper1, lower1)),
    i16x8.narrow_i32x4_s(join(upper2, lower2), join(upper3, lower3)),
  );
}
