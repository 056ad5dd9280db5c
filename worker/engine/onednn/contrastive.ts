/**
 * NT-Xent's work per row of the similarity matrix. Exponents are at most 0 up to rounding, since
 * s_ij is one of the terms of both log-sum-exps that it is compared with.
 *
 * R rows of this worker, G rows of the gang.
 */

import assert from "node:assert/strict";
import type { ContrastiveOptions } from "../engine.ts";

/** Log-sum-exp over j != i, and the partner's similarity, of each row of s_RG. */
export function summariseRows(
  s_RG: Float32Array,
  rows: number,
  { begin }: ContrastiveOptions,
): { readonly logSumExp_R: Float32Array; readonly positive_R: Float32Array } {
  const rowsGlobal = s_RG.length / rows;
  assert.ok(begin % 2 === 0 && rows % 2 === 0, "a worker holds whole pairs");
  assert.ok(begin + rows <= rowsGlobal, "own rows lie within the gang's");
  const logSumExp_R = new Float32Array(rows);
  const positive_R = new Float32Array(rows);
  for (let r = 0; r < rows; r++) {
    const s_G = s_RG.subarray(r * rowsGlobal, (r + 1) * rowsGlobal);
    const self = begin + r;
    let peak = Number.NEGATIVE_INFINITY;
    for (let j = 0; j < rowsGlobal; j++) if (j !== self && s_G[j]! > peak) peak = s_G[j]!;
    let total = 0;
    for (let j = 0; j < rowsGlobal; j++) if (j !== self) total += Math.exp(s_G[j]! - peak);
    logSumExp_R[r] = peak + Math.log(total);
    positive_R[r] = s_G[self ^ 1]!;
  }
  return { logSumExp_R, positive_R };
}

/**
 * What each row of z is weighted with in the gradient:
 * exp(s_ij - lse_i) + exp(s_ij - lse_j) - 2 [j = i XOR 1], and 0 for j = i.
 */
export function weighRows(
  s_RG: Float32Array,
  logSumExp_G: Float32Array,
  { begin }: ContrastiveOptions,
  weights_RG: Float32Array,
): void {
  const rowsGlobal = logSumExp_G.length;
  for (let at = 0, r = 0; at < s_RG.length; r++) {
    const self = begin + r;
    const own = logSumExp_G[self]!;
    for (let j = 0; j < rowsGlobal; j++, at++) {
      const s = s_RG[at]!;
      weights_RG[at] = j === self ? 0 : Math.exp(s - own) + Math.exp(s - logSumExp_G[j]!);
    }
    weights_RG[r * rowsGlobal + (self ^ 1)]! -= 2;
  }
}
