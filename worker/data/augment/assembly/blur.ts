/**
 * One pass of an extended box blur: `whole` times the pixels up to `radius` away, plus `edge` times
 * the two just beyond. Weights have 24 bits of fraction and come in two words, each with the part
 * for the whole pixels below and that for the edge above: the upper 12 bits, then the lower 12.
 */

const HALF: i32 = 1 << 23;

/** Sums of four pixels and of their edges, weighed and rounded. */
function weigh(pairs: v128, upper: v128, lower: v128): v128 {
  const high = i32x4.shl(i32x4.dot_i16x8_s(pairs, upper), 12);
  const sum = i32x4.add(i32x4.add(high, i32x4.dot_i16x8_s(pairs, lower)), i32x4.splat(HALF));
  return i32x4.shr_u(sum, 24);
}

/** Sixteen output pixels around `at`, where `step` leads to the next input pixel of each. */
function blurSixteen(at: usize, step: usize, radius: i32, upper: v128, lower: v128): v128 {
  let first = at - <usize>radius * step;
  let low = i16x8.splat(0);
  let high = low;
  for (let k = -radius; k <= radius; k++) {
    const row = v128.load(first);
    low = i16x8.add(low, i16x8.extend_low_i8x16_u(row));
    high = i16x8.add(high, i16x8.extend_high_i8x16_u(row));
    first += step;
  }
  const beyond = v128.load(first);
  const before = v128.load(at - <usize>(radius + 1) * step);
  return weighSixteen(low, high, before, beyond, upper, lower);
}

function weighSixteen(
  low: v128,
  high: v128,
  before: v128,
  beyond: v128,
  upper: v128,
  lower: v128,
): v128 {
  const edgeLow = i16x8.add(i16x8.extend_low_i8x16_u(before), i16x8.extend_low_i8x16_u(beyond));
  const edgeHigh = i16x8.add(i16x8.extend_high_i8x16_u(before), i16x8.extend_high_i8x16_u(beyond));
  const four0 = weigh(interleaveLow(low, edgeLow), upper, lower);
  const four1 = weigh(interleaveHigh(low, edgeLow), upper, lower);
  const four2 = weigh(interleaveLow(high, edgeHigh), upper, lower);
  const four3 = weigh(interleaveHigh(high, edgeHigh), upper, lower);
  return i8x16.narrow_i16x8_u(
    i16x8.narrow_i32x4_s(four0, four1),
    i16x8.narrow_i32x4_s(four2, four3),
  );
}

function interleaveLow(a: v128, b: v128): v128 {
  return i8x16.shuffle(a, b, 0, 1, 16, 17, 2, 3, 18, 19, 4, 5, 20, 21, 6, 7, 22, 23);
}

function interleaveHigh(a: v128, b: v128): v128 {
  return i8x16.shuffle(a, b, 8, 9, 24, 25, 10, 11, 26, 27, 12, 13, 28, 29, 14, 15, 30, 31);
}

/**
 * Three passes along every row, in place. Beyond the border the outermost pixel repeats.
 *
 * @param planeBytes from one plane to the next
 * @param lines room for two rows with a margin of radius + 1 and 16 more bytes on either side
 * @param lineBytes from one line to the next
 */
export function blurRows(
  planes: usize,
  planeBytes: usize,
  width: i32,
  height: i32,
  lines: usize,
  lineBytes: usize,
  radius: i32,
  upper: i32,
  lower: i32,
): void {
  const uppers = i32x4.splat(upper);
  const lowers = i32x4.splat(lower);
  const margin = <usize>(radius + 1);
  const bytes = <usize>width;
  for (let plane = 0; plane < 3; plane++) {
    for (let y = 0; y < height; y++) {
      const row = planes + <usize>(plane * <i32>planeBytes + y * width);
      let from = lines + margin;
      let to = from + lineBytes;
      memory.copy(from, row, bytes);
      for (let pass = 0; pass < 3; pass++) {
        memory.fill(from - margin, load<u8>(from), margin);
        memory.fill(from + bytes, load<u8>(from + bytes - 1), margin);
        for (let x: usize = 0; x < bytes; x += 16) {
          v128.store(to + x, blurSixteen(from + x, 1, radius, uppers, lowers));
        }
        const done = to;
        to = from;
        from = done;
      }
      memory.copy(row, from, bytes);
    }
  }
}

/** One pass down the columns of one plane, to another place. */
export function blurColumns(
  source: usize,
  target: usize,
  width: i32,
  height: i32,
  radius: i32,
  upper: i32,
  lower: i32,
): void {
  const uppers = i32x4.splat(upper);
  const lowers = i32x4.splat(lower);
  const bytes = <usize>width;
  for (let y = 0; y < height; y++) {
    const out = target + <usize>(y * width);
    const isInside = y > radius && y + radius + 1 < height;
    for (let x: usize = 0; x < bytes; x += 16) {
      const at = source + x;
      v128.store(
        out + x,
        isInside
          ? blurSixteen(at + <usize>(y * width), bytes, radius, uppers, lowers)
          : blurNearBorder(at, bytes, y, height, radius, uppers, lowers),
      );
    }
  }
}

/** The row `y`, or the nearest one that exists, at the same column. */
function clampedRow(column: usize, bytes: usize, y: i32, height: i32): usize {
  return column + <usize>max(0, min(y, height - 1)) * bytes;
}

function blurNearBorder(
  column: usize,
  bytes: usize,
  y: i32,
  height: i32,
  radius: i32,
  upper: v128,
  lower: v128,
): v128 {
  let low = i16x8.splat(0);
  let high = low;
  for (let k = y - radius; k <= y + radius; k++) {
    const row = v128.load(clampedRow(column, bytes, k, height));
    low = i16x8.add(low, i16x8.extend_low_i8x16_u(row));
    high = i16x8.add(high, i16x8.extend_high_i8x16_u(row));
  }
  const before = v128.load(clampedRow(column, bytes, y - radius - 1, height));
  const beyond = v128.load(clampedRow(column, bytes, y + radius + 1, height));
  return weighSixteen(low, high, before, beyond, upper, lower);
}
