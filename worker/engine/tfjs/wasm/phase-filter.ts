/**
 * The filter of a strided convolution's backward, as the filter of a plain convolution of dy.
 *
 * Input pixel y = s a + r (phase r of block a) was read by the outputs at
 * a + (r + padding - tap) / s, for every tap for which that is whole. So all phases of block a see
 * the outputs a + offset of one small window, and differ in the taps that they meet there.
 */

import type { Geometry } from "../../engine.ts";

/** Offsets [first, last] that a block sees along one axis. */
export interface Window {
  readonly first: number;
  readonly last: number;
}

export interface PhaseFilter {
  /** [rows, columns, O, s s I] with the phases row by row. */
  readonly shape: [number, number, number, number];
  readonly values: Float32Array;
  readonly rows: Window;
  readonly columns: Window;
}

/** @param filter [kh,kw,I,O] */
export function phaseFilter(
  filter: Float32Array,
  filterShape: readonly number[],
  geometry: Geometry,
): PhaseFilter {
  const [kh, kw, inputs, outputs] = filterShape as [number, number, number, number];
  const { stride } = geometry;
  const [vertical, horizontal] = [meetings(kh, geometry), meetings(kw, geometry)];
  const [rows, columns] = [windowOf(vertical), windowOf(horizontal)];
  const [height, width] = [rows.last - rows.first + 1, columns.last - columns.first + 1];
  const targets = stride * stride * inputs;
  const values = new Float32Array(height * width * outputs * targets);
  for (const v of vertical) {
    for (const h of horizontal) {
      const from = (v.tap * kw + h.tap) * inputs * outputs;
      const place = (v.offset - rows.first) * width + (h.offset - columns.first);
      const to = place * outputs * targets + (v.phase * stride + h.phase) * inputs;
      for (let i = 0; i < inputs; i++)
        for (let o = 0; o < outputs; o++)
          values[to + o * targets + i] = filter[from + i * outputs + o]!;
    }
  }
  return { shape: [height, width, outputs, targets], values, rows, columns };
}

interface Meeting {
  readonly phase: number;
  readonly tap: number;
  readonly offset: number;
}

function meetings(taps: number, { stride, padding }: Geometry): Meeting[] {
  const found: Meeting[] = [];
  for (let phase = 0; phase < stride; phase++)
    for (let tap = 0; tap < taps; tap++) {
      const offset = (phase + padding - tap) / stride;
      if (Number.isInteger(offset)) found.push({ phase, tap, offset });
    }
  return found;
}

function windowOf(found: readonly Meeting[]): Window {
  const offsets = found.map(({ offset }) => offset);
  return { first: Math.min(...offsets), last: Math.max(...offsets) };
}
