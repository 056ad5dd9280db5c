/** The pool's backward in JavaScript: the backend's own takes another of several equal maxima. */

import { outputLength, POOL } from "../../shapes.ts";

/**
 * Gives every dy to the first of the largest inputs of its window, row by row, as PyTorch does.
 *
 * @param x [N,H,W,C]
 * @param dy [N,H',W',C]
 */
export function maxPoolGradient(
  x: Float32Array,
  dy: Float32Array,
  xShape: readonly number[],
): Float32Array {
  const [images, height, width, channels] = xShape as [number, number, number, number];
  const outHeight = outputLength(height, POOL.window, POOL);
  const outWidth = outputLength(width, POOL.window, POOL);
  const dx = new Float32Array(x.length);
  const peak_C = new Float32Array(channels);
  const winner_C = new Int32Array(channels);
  let out = 0;
  for (let n = 0; n < images; n++)
    for (let oy = 0; oy < outHeight; oy++)
      for (let ox = 0; ox < outWidth; ox++) {
        const [rows, columns] = [span(oy, height), span(ox, width)];
        peak_C.fill(Number.NEGATIVE_INFINITY);
        for (let y = rows.begin; y < rows.end; y++)
          for (let column = columns.begin; column < columns.end; column++)
            compete(x, ((n * height + y) * width + column) * channels, peak_C, winner_C);
        for (let c = 0; c < channels; c++) dx[winner_C[c]!]! += dy[out + c]!;
        out += channels;
      }
  return dx;
}

/** The part of a window's [begin, end) that lies in the image. */
function span(place: number, length: number): { readonly begin: number; readonly end: number } {
  const begin = place * POOL.stride - POOL.padding;
  return { begin: Math.max(0, begin), end: Math.min(length, begin + POOL.window) };
}

function compete(x: Float32Array, at: number, peak_C: Float32Array, winner_C: Int32Array): void {
  for (let c = 0; c < peak_C.length; c++) {
    const value = x[at + c]!;
    if (value <= peak_C[c]!) continue;
    peak_C[c] = value;
    winner_C[c] = at + c;
  }
}
