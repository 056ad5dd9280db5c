/**
 * The pictures of the demo: one pattern per class, everything else left to chance.
 *
 * A pattern is a function from a point of the plane to ink or no ink, one motif per unit square.
 * Colours, turn, size, place, light and grain are drawn for every image anew, so no single pixel
 * and no histogram of colours tells the classes apart; the form does. All but the colours vary
 * little: a few hundred steps must be enough to learn what matters.
 */

import type { Chance } from "./chance.ts";

/** Ink at (u, v), where the motif fills [0, 1) x [0, 1). */
type Pattern = (u: number, v: number) => boolean;

const fromCentre = (u: number, v: number): number => Math.hypot(u - 0.5, v - 0.5);

const PATTERNS = {
  stripes: (_u, v) => v < 0.5,
  zigzag: (u, v) => (v + Math.abs(u - 0.5)) % 1 < 0.5,
  checks: (u, v) => u < 0.5 === v < 0.5,
  grid: (u, v) => u < 0.25 || v < 0.25,
  discs: (u, v) => fromCentre(u, v) < 0.36,
  rings: (u, v) => Math.abs(fromCentre(u, v) - 0.33) < 0.11,
  crosses: (u, v) => Math.min(Math.abs(u - 0.5), Math.abs(v - 0.5)) < 0.12 && inner(u) && inner(v),
  triangles: (u, v) => 0.15 < v && v < 0.85 && Math.abs(u - 0.5) < (v - 0.15) * 0.6,
} as const satisfies Readonly<Record<string, Pattern>>;

export type PatternName = keyof typeof PATTERNS;

/** The classes, in the order of their labels (that of folder names). */
export const PATTERN_NAMES = (Object.keys(PATTERNS) as PatternName[]).sort();

type Rgb = readonly [number, number, number];

/** Each pixel is the mean of so many by so many points. */
const SAMPLES = 3;
/** Of ink and paper, summed over the channels: fainter images would be noise to people, too. */
const CONTRAST_MIN = 400;

/** Radians to either side. */
const TURN_MAX = 0.08;

/** Draws one image of the class, RGB, row-major, `size` x `size` x 3. */
export function drawPattern(name: PatternName, size: number, chance: Chance): Uint8Array {
  const ink = coverage(PATTERNS[name], size, chance);
  const [paper, pen] = drawColours(chance);
  const light = drawLight(size, chance);
  const grain = chance.uniform(2, 3);

  const pixels = new Uint8Array(size * size * 3);
  for (let i = 0; i < size * size; i++) {
    for (let channel = 0; channel < 3; channel++) {
      const clean = paper[channel]! + (pen[channel]! - paper[channel]!) * ink[i]!;
      const value = clean * light[i]! + grain * chance.bell();
      pixels[i * 3 + channel] = Math.max(0, Math.min(255, Math.round(value)));
    }
  }
  return pixels;
}

/** Share of each pixel under ink, the pattern turned, scaled and shifted at random. */
function coverage(pattern: Pattern, size: number, chance: Chance): Float32Array {
  const angle = chance.uniform(-TURN_MAX, TURN_MAX);
  const pitch = size * chance.uniform(0.26, 0.32);
  const [shiftU, shiftV] = [chance.uniform(0, 1), chance.uniform(0, 1)];
  const [cos, sin] = [Math.cos(angle) / pitch, Math.sin(angle) / pitch];

  const ink = new Float32Array(size * size);
  for (let i = 0; i < size * size * SAMPLES * SAMPLES; i++) {
    const column = i % (size * SAMPLES);
    const row = Math.floor(i / (size * SAMPLES));
    const [x, y] = [(column + 0.5) / SAMPLES, (row + 0.5) / SAMPLES];
    const u = fraction(x * cos - y * sin + shiftU);
    const v = fraction(x * sin + y * cos + shiftV);
    const pixel = Math.floor(row / SAMPLES) * size + Math.floor(column / SAMPLES);
    if (pattern(u, v)) ink[pixel]! += 1 / SAMPLES ** 2;
  }
  return ink;
}

/** Paper and ink: any two colours that can be told apart. */
function drawColours(chance: Chance): readonly [Rgb, Rgb] {
  const colour = (): Rgb => [chance.below(256), chance.below(256), chance.below(256)];
  for (;;) {
    const [paper, pen] = [colour(), colour()];
    const contrast = paper.reduce((sum, value, i) => sum + Math.abs(value - pen[i]!), 0);
    if (contrast >= CONTRAST_MIN) return [paper, pen];
  }
}

/** A slope of brightness across the image, from a random side. */
function drawLight(size: number, chance: Chance): Float32Array {
  const angle = chance.uniform(0, 2 * Math.PI);
  const strength = chance.uniform(0, 0.05);
  return Float32Array.from({ length: size * size }, (_, i) => {
    const [x, y] = [(i % size) / size - 0.5, Math.floor(i / size) / size - 0.5];
    return 1 + strength * 2 * (x * Math.cos(angle) + y * Math.sin(angle));
  });
}

function fraction(value: number): number {
  return value - Math.floor(value);
}

/** Within the middle three quarters of the motif. */
function inner(value: number): boolean {
  return Math.abs(value - 0.5) < 0.375;
}
