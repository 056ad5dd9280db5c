/**
 * Hue rotation in Pillow's 8-bit HSV, four pixels at a time.
 *
 * The conversion loses information, so its rounding is part of the result. Pillow divides in
 * float32 and multiplies in float64; here the products are float32, and what that rounds away is
 * found out and put right where it would change the integer.
 */

import { loadFour, truncateFour, truncateTwice, upperHalf } from "./lanes";

/** trunc(255 x) as float64 has it, for a float32 x in [0, 1], without leaving float32. */
function times255(x: v128): v128 {
  const near = f32x4.trunc(f32x4.mul(x, f32x4.splat(255)));
  // 256 x - near is exact, as the two are close to one another; 255 x >= near if it is at least x.
  const rest = f32x4.sub(f32x4.mul(x, f32x4.splat(256)), near);
  const isAbove = f32x4.lt(rest, x);
  return i32x4.add(truncateFour(near), isAbove);
}

/** value (1 - share) + 0.5, two of them, in float64. */
function fade(value: v128, share: v128): v128 {
  const rest = f64x2.sub(f64x2.splat(1), share);
  return f64x2.add(f64x2.mul(f64x2.convert_low_i32x4_s(value), rest), f64x2.splat(0.5));
}

/** strength (1 - fraction) in float64, for two pixels. */
function risingShare(strength: v128, fraction: v128): v128 {
  const rest = f64x2.sub(f64x2.splat(1), f64x2.promote_low_f32x4(fraction));
  return f64x2.mul(f64x2.promote_low_f32x4(strength), rest);
}

/** What one edge of the sector takes: rising in even sectors, falling in odd ones. */
function edge(value: v128, strength: v128, fraction: v128, isOdd: v128): v128 {
  const falling = f32x4.mul(strength, fraction);
  const mask0 = i64x2.extend_low_i32x4_s(isOdd);
  const mask1 = i64x2.extend_high_i32x4_s(isOdd);
  const share0 = v128.bitselect(
    f64x2.promote_low_f32x4(falling),
    risingShare(strength, fraction),
    mask0,
  );
  const share1 = v128.bitselect(
    f64x2.promote_low_f32x4(upperHalf(falling)),
    risingShare(upperHalf(strength), upperHalf(fraction)),
    mask1,
  );
  return truncateTwice(fade(value, share0), fade(upperHalf(value), share1));
}

/**
 * Position on the circle in sixths, [-1, 5].
 *
 * With the distances d = (largest - channel) / chroma, Pillow takes d(blue) - d(green) where red is
 * the largest, 2 + d(red) - d(blue) where green is, 4 + d(green) - d(red) where blue is. One of the
 * two is that of the smallest channel, which is 1; so it comes down to one number plus or minus the
 * middle channel's distance, rounded once.
 */
function sixths(red: v128, green: v128, blue: v128, value: v128, low: v128, range: v128): v128 {
  const sum = i32x4.add(i32x4.add(red, green), blue);
  // largest - middle = 2 largest + smallest - sum
  const distance = i32x4.sub(i32x4.add(i32x4.add(value, value), low), sum);
  const middle = f32x4.div(f32x4.convert_i32x4_s(distance), range);
  const sign = i32x4.splat(0x80000000);

  const isTowardsGreen = i32x4.ge_s(green, blue);
  const fromRed = v128.bitselect(f32x4.splat(1), f32x4.splat(-1), isTowardsGreen);
  const isTowardsRed = i32x4.ge_s(red, blue);
  const fromGreen = v128.bitselect(f32x4.splat(1), f32x4.splat(3), isTowardsRed);
  const isFromGreen = i32x4.ge_s(green, red);
  const fromBlue = v128.bitselect(f32x4.splat(3), f32x4.splat(5), isFromGreen);

  const isRed = i32x4.eq(red, value);
  const isGreen = i32x4.eq(green, value);
  const whole = v128.bitselect(fromRed, v128.bitselect(fromGreen, fromBlue, isGreen), isRed);
  const isPlus = v128.bitselect(
    v128.not(isTowardsGreen),
    v128.bitselect(isTowardsRed, isFromGreen, isGreen),
    isRed,
  );
  return f32x4.add(whole, v128.xor(middle, v128.andnot(sign, isPlus)));
}

/** Hue of 256 steps. */
function hueOf(sixth: v128): v128 {
  const share = f32x4.div(sixth, f32x4.splat(6));
  const isBelow = f32x4.lt(share, f32x4.splat(0));
  return times255(f32x4.add(share, v128.and(isBelow, f32x4.splat(1))));
}

/** By sector of the circle, where in {@link turnHue}'s `choices` each channel's value stands. */
function redChoice(): v128 {
  return i8x16(0, 8, 4, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
}
function greenChoice(): v128 {
  return i8x16(8, 0, 0, 8, 4, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0);
}
function blueChoice(): v128 {
  return i8x16(4, 4, 8, 0, 0, 8, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0);
}

/** Four integers of at most 8 bits to the first four bytes. */
function pack(four: v128): v128 {
  const narrow = i16x8.narrow_i32x4_s(four, four);
  return i8x16.narrow_i16x8_u(narrow, narrow);
}

/**
 * Turns the hue of every pixel by so many of 256 steps.
 *
 * @param shift 0 to 255
 */
export function turnHue(planes: usize, planeBytes: usize, pixels: i32, shift: i32): void {
  const end = planes + <usize>pixels;
  const full = f32x4.splat(255);
  for (let at = planes; at < end; at += 4) {
    const red = loadFour(at, 0);
    const green = loadFour(at + planeBytes, 0);
    const blue = loadFour(at + 2 * planeBytes, 0);
    const value = i32x4.max_s(i32x4.max_s(red, green), blue);
    const low = i32x4.min_s(i32x4.min_s(red, green), blue);
    const values = f32x4.convert_i32x4_s(value);
    const chroma = f32x4.convert_i32x4_s(i32x4.sub(value, low));
    // Grey has saturation 0, whatever its hue comes out as.
    const isColour = f32x4.gt(chroma, f32x4.splat(0));
    const saturation = v128.and(times255(f32x4.div(chroma, values)), isColour);
    const turned = i32x4.add(
      hueOf(sixths(red, green, blue, value, low, chroma)),
      i32x4.splat(shift),
    );
    const hue = v128.and(turned, i32x4.splat(255));

    // 6 hue = 255 sector + rest, and n / 255 = (n + 1 + (n >> 8)) >> 8 for n < 65535.
    const sixfold = i32x4.mul(hue, i32x4.splat(6));
    const rounded = i32x4.add(i32x4.add(sixfold, i32x4.splat(1)), i32x4.shr_u(sixfold, 8));
    const sector = i32x4.shr_u(rounded, 8);
    const rest = i32x4.sub(sixfold, i32x4.mul(sector, i32x4.splat(255)));
    const fraction = f32x4.div(f32x4.convert_i32x4_s(rest), full);
    const strength = f32x4.div(f32x4.convert_i32x4_s(saturation), full);

    // An integer is at least 1 / 510 away from this, far more than float32 rounds.
    const least = f32x4.mul(values, f32x4.sub(f32x4.splat(1), strength));
    const floor = truncateFour(f32x4.add(least, f32x4.splat(0.5)));
    const isOdd = i32x4.ne(v128.and(sector, i32x4.splat(1)), i32x4.splat(0));
    const between = edge(value, strength, fraction, isOdd);

    const choices = i8x16.narrow_i16x8_u(
      i16x8.narrow_i32x4_s(value, floor),
      i16x8.narrow_i32x4_s(between, between),
    );
    const sectors = pack(sector);
    const own = i8x16(0, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    choose(at, choices, i8x16.add(i8x16.swizzle(redChoice(), sectors), own));
    choose(at + planeBytes, choices, i8x16.add(i8x16.swizzle(greenChoice(), sectors), own));
    choose(at + 2 * planeBytes, choices, i8x16.add(i8x16.swizzle(blueChoice(), sectors), own));
  }
}

function choose(at: usize, choices: v128, places: v128): void {
  v128.store_lane<u32>(at, i8x16.swizzle(choices, places), 0);
}
