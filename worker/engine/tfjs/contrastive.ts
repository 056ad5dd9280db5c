/**
 * NT-Xent's matrix work in float32.
 *
 * The similarities are kept with the self column at a large negative number, so that its
 * exponential is an exact zero wherever it is taken. Every exponent is at most 0 up to rounding:
 * s_ij is one of the terms of both log-sum-exps it is compared with.
 *
 * R rows of this worker, G rows of the gang, D embedding width.
 */

import assert from "node:assert/strict";
import type { ContrastiveOptions } from "../engine.ts";
import type { Raw, Tfjs, TfjsKernels } from "./kernels.ts";

const SELF = -1e30;

/** What the two functions compute with. */
interface Device {
  readonly tf: Tfjs;
  readonly kernels: TfjsKernels;
}

export interface RawRows {
  readonly similarities_RG: Raw;
  readonly logSumExp_R: Raw;
  readonly positive_R: Raw;
}

export function contrastiveRows(
  { tf, kernels }: Device,
  z_RD: Raw,
  z_GD: Raw,
  options: ContrastiveOptions,
): RawRows {
  const [rows, rowsGlobal] = [z_RD.shape[0]!, z_GD.shape[0]!];
  assert.ok(options.begin % 2 === 0 && rows % 2 === 0, "a worker holds whole pairs");
  assert.ok(options.begin + rows <= rowsGlobal, "own rows lie within the gang's");
  const product_RG = kernels.matMul(z_RD, z_GD, { transposeB: true });
  const { self, partner } = columnsOf(rows, options);
  const self_RG = kernels.oneHot(self, rowsGlobal, SELF);
  const partner_RG = kernels.oneHot(partner, rowsGlobal, 1);
  const similarities_RG = tf.add(tf.mul(product_RG, 1 / options.temperature), self_RG);
  const peak_R1 = tf.max(similarities_RG, 1, true);
  const total_R1 = tf.sum(tf.exp(tf.sub(similarities_RG, peak_R1)), 1, true);
  return {
    similarities_RG,
    logSumExp_R: tf.reshape(tf.add(peak_R1, tf.log(total_R1)), [rows]),
    positive_R: tf.sum(tf.mul(similarities_RG, partner_RG), 1),
  };
}

/** dz_RD; see {@link Engine.contrastiveGradient}. */
export function contrastiveGradient(
  { tf, kernels }: Device,
  similarities_RG: Raw,
  z_GD: Raw,
  logSumExp_G: Float32Array,
  options: ContrastiveOptions,
): Raw {
  const [rows, rowsGlobal] = similarities_RG.shape as [number, number];
  const { begin, temperature } = options;
  const lse_R1 = tf.tensor2d(logSumExp_G.slice(begin, begin + rows), [rows, 1]);
  const lse_1G = tf.tensor2d(logSumExp_G, [1, rowsGlobal]);
  const push_RG = tf.add(
    tf.exp(tf.sub(similarities_RG, lse_R1)),
    tf.exp(tf.sub(similarities_RG, lse_1G)),
  );
  const pull_RG = kernels.oneHot(columnsOf(rows, options).partner, rowsGlobal, 2);
  const weights_RG = tf.sub(push_RG, pull_RG);
  return tf.mul(kernels.matMul(weights_RG, z_GD), 1 / (rowsGlobal * temperature));
}

/** Columns of each own row and of its partner. */
function columnsOf(rows: number, { begin }: ContrastiveOptions) {
  return {
    self: Int32Array.from({ length: rows }, (_, r) => begin + r),
    partner: Int32Array.from({ length: rows }, (_, r) => (begin + r) ^ 1),
  };
}
