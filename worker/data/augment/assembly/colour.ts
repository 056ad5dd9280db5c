/**
 * Brightness, contrast, saturation and grey over three planes, sixteen pixels at a time. Loops run
 * on into the padding behind a plane, where what they find and leave does not matter.
 */

import { loadFour, storeFour, truncateFour, truncateTwice, upperHalf } from "./lanes";

/** ITU-R 601 luma in 16-bit fixed point, rounded; the weights add up to 65536. */
function luma(red: v128, green: v128, blue: v128): v128 {
  const sum = i32x4.add(
    i32x4.add(i32x4.mul(red, i32x4.splat(19595)), i32x4.mul(green, i32x4.splat(38470))),
    i32x4.add(i32x4.mul(blue, i32x4.splat(7471)), i32x4.splat(0x8000)),
  );
  return i32x4.shr_u(sum, 16);
}

/** base + factor (value - base) in float32, clipped and truncated. */
function mix(base: v128, value: v128, factor: v128): v128 {
  const distance = f32x4.mul(factor, f32x4.sub(f32x4.convert_i32x4_s(value), base));
  const mixed = f32x4.add(base, distance);
  return truncateFour(f32x4.pmin(f32x4.pmax(mixed, f32x4.splat(0)), f32x4.splat(255)));
}

/** Moves each of `bytes` values away from (or, with a factor below 1, towards) `base`. */
export function blendWith(planes: usize, bytes: i32, base: f32, factor: f32): void {
  const bases = f32x4.splat(base);
  const factors = f32x4.splat(factor);
  const end = planes + <usize>bytes;
  for (let at = planes; at < end; at += 16) {
    const mixed0 = mix(bases, loadFour(at, 0), factors);
    const mixed1 = mix(bases, loadFour(at, 1), factors);
    const mixed2 = mix(bases, loadFour(at, 2), factors);
    const mixed3 = mix(bases, loadFour(at, 3), factors);
    const low = i16x8.narrow_i32x4_s(mixed0, mixed1);
    const high = i16x8.narrow_i32x4_s(mixed2, mixed3);
    v128.store(at, i8x16.narrow_i16x8_u(low, high));
  }
}

/** Moves every pixel away from (or, with a factor below 1, towards) its own luma. */
export function blendWithLuma(planes: usize, planeBytes: usize, pixels: i32, factor: f32): void {
  const factors = f32x4.splat(factor);
  const end = planes + <usize>pixels;
  for (let at = planes; at < end; at += 4) {
    const red = loadFour(at, 0);
    const green = loadFour(at + planeBytes, 0);
    const blue = loadFour(at + 2 * planeBytes, 0);
    const grey = f32x4.convert_i32x4_s(luma(red, green, blue));
    storeFour(at, 0, mix(grey, red, factors));
    storeFour(at + planeBytes, 0, mix(grey, green, factors));
    storeFour(at + 2 * planeBytes, 0, mix(grey, blue, factors));
  }
}

/** Sum of the lumas of all pixels. */
export function sumLuma(planes: usize, planeBytes: usize, pixels: i32): f64 {
  let sums = i64x2.splat(0);
  const whole = pixels & ~3;
  const end = planes + <usize>whole;
  let at = planes;
  for (; at < end; at += 4) {
    const four = luma(
      loadFour(at, 0),
      loadFour(at + planeBytes, 0),
      loadFour(at + 2 * planeBytes, 0),
    );
    sums = i64x2.add(
      sums,
      i64x2.add(i64x2.extend_low_i32x4_u(four), i64x2.extend_high_i32x4_u(four)),
    );
  }
  let sum = i64x2.extract_lane(sums, 0) + i64x2.extract_lane(sums, 1);
  for (let rest = whole; rest < pixels; rest++, at++) {
    const red = <i32>load<u8>(at);
    const green = <i32>load<u8>(at + planeBytes);
    const blue = <i32>load<u8>(at + 2 * planeBytes);
    sum += <i64>((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16);
  }
  return <f64>sum;
}

/** Two pixels' sum of weighted channels, in float64. */
function weigh(red: v128, green: v128, blue: v128, r: f64, g: f64, b: f64): v128 {
  return f64x2.add(
    f64x2.add(
      f64x2.mul(f64x2.convert_low_i32x4_s(blue), f64x2.splat(b)),
      f64x2.mul(f64x2.convert_low_i32x4_s(green), f64x2.splat(g)),
    ),
    f64x2.mul(f64x2.convert_low_i32x4_s(red), f64x2.splat(r)),
  );
}

/** Replaces colours by the weighted sum of the channels. */
export function toGrey(
  planes: usize,
  planeBytes: usize,
  pixels: i32,
  r: f64,
  g: f64,
  b: f64,
): void {
  const end = planes + <usize>pixels;
  for (let at = planes; at < end; at += 4) {
    const red = loadFour(at, 0);
    const green = loadFour(at + planeBytes, 0);
    const blue = loadFour(at + 2 * planeBytes, 0);
    const low = weigh(red, green, blue, r, g, b);
    const high = weigh(upperHalf(red), upperHalf(green), upperHalf(blue), r, g, b);
    const grey = truncateTwice(low, high);
    storeFour(at, 0, grey);
    storeFour(at + planeBytes, 0, grey);
    storeFour(at + 2 * planeBytes, 0, grey);
  }
}
