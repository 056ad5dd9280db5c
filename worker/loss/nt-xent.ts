/**
 * NT-Xent, SimCLR's contrastive loss, over the batch of a whole gang.
 *
 * Shape suffixes: R rows of this worker, G rows of the gang in rank order, D embedding width. Rows
 * interleave the two views of an image, so that the partner of row i is i XOR 1.
 *
 *   s_ij = z_i . z_j / temperature        lse_i = log sum over j != i of exp(s_ij)
 *   loss = 1/G sum over i of (lse_i - s_i,partner(i))
 *
 * A worker computes its own rows of s only. The gradient also needs its columns, but s is
 * symmetric: with the lse of every row, one number each, the own rows are enough.
 */

import assert from "node:assert/strict";
import type { ProcessGroup } from "../collective/process-group.ts";
import type { Engine } from "../engine/engine.ts";
import { normaliseRows, normaliseRowsBackward } from "./normalise-rows.ts";

export interface NtXentOptions {
  /** D */
  readonly dim: number;
  readonly temperature: number;
  /** Whether this worker wants to stop after the step; told the others on the way. */
  readonly wantsStop?: boolean;
}

export interface NtXentResult {
  /** Mean over the gang's rows; the same bits on all ranks. */
  readonly loss: number;
  /** Gradient of `loss` with respect to this worker's embeddings as they came in. */
  readonly dz_RD: Float32Array;
  /** Whether any worker wants to stop. */
  readonly isStopWanted: boolean;
  /** The first rank whose part of the loss is not finite, when the loss is not. */
  readonly brokenRank?: number;
}

/** The loss of embeddings that tell nothing apart, 2n rows of the gang: ln(2n - 1). */
export function uninformedLoss(rowsGlobal: number): number {
  return Math.log(rowsGlobal - 1);
}

/**
 * Makes two all-gathers: of the normalised rows, and of their log-sum-exps with the sum of the
 * losses and the wishes to stop. The first waits for the last norm, the second for the first, and
 * backward for the second: none of them can travel with another.
 *
 * @param z_RD this worker's embeddings, not normalised; as many rows on every rank
 * @throws {FleetError} GENERATION_ABORTED
 */
export function ntXent(
  engine: Engine,
  group: ProcessGroup,
  z_RD: Float32Array,
  { dim, temperature, wantsStop = false }: NtXentOptions,
): NtXentResult {
  const rows = z_RD.length / dim;
  assert.ok(Number.isInteger(rows), "whole rows");
  assert.equal(rows % 2, 0, "a worker holds whole pairs");
  const y_RD = normaliseRows(z_RD, dim);
  const y_GD = group.allGather(y_RD);
  const rowsGlobal = y_GD.length / dim;
  assert.equal(rowsGlobal, rows * group.worldSize, "every rank has as many rows");

  return engine.scope(() => {
    const own = engine.upload(y_RD, [rows, dim]);
    const all = engine.upload(y_GD, [rowsGlobal, dim]);
    const options = { begin: group.rank * rows, temperature };
    const similar = engine.contrastiveRows(own, all, options);

    let lossSum = 0;
    for (let r = 0; r < rows; r++) lossSum += similar.logSumExp_R[r]! - similar.positive_R[r]!;
    const own_R = { logSumExp_R: similar.logSumExp_R, lossSum, wantsStop };
    const { logSumExp_G, total, isStopWanted, badRank } = gatherRows(group, own_R);
    const loss = total / rowsGlobal;

    const dy = engine.contrastiveGradient(similar, all, logSumExp_G, options);
    const dz_RD = normaliseRowsBackward(z_RD, engine.download(dy), dim);
    const result = { loss, dz_RD, isStopWanted };
    if (badRank === undefined) return result;
    const broken = y_GD.findIndex((value) => !Number.isFinite(value));
    // Bad embeddings spoil every rank's rows; without any, the rank with bad rows has spoilt them.
    return { ...result, brokenRank: broken >= 0 ? Math.floor(broken / z_RD.length) : badRank };
  });
}

interface GatheredRows {
  readonly logSumExp_G: Float32Array;
  readonly total: number;
  readonly isStopWanted: boolean;
  /** The first rank whose loss sum is not finite, if there is one. */
  readonly badRank: number | undefined;
}

/** Shares every row's log-sum-exp, and adds the ranks' loss sums in rank order. */
function gatherRows(
  group: ProcessGroup,
  own: {
    readonly logSumExp_R: Float32Array;
    readonly lossSum: number;
    readonly wantsStop: boolean;
  },
): GatheredRows {
  const { logSumExp_R, lossSum, wantsStop } = own;
  const rows = logSumExp_R.length;
  const packed = new Float32Array(rows + 3);
  packed.set(logSumExp_R);
  // As two floats, so that the sum keeps about 48 bits.
  const high = Math.fround(lossSum);
  packed[rows] = high;
  packed[rows + 1] = lossSum - high;
  packed[rows + 2] = Number(wantsStop);

  const gathered = group.allGather(packed);
  const logSumExp_G = new Float32Array(rows * group.worldSize);
  let total = 0;
  let isStopWanted = false;
  let badRank: number | undefined;
  for (let rank = 0; rank < group.worldSize; rank++) {
    const at = rank * packed.length;
    logSumExp_G.set(gathered.subarray(at, at + rows), rank * rows);
    total += gathered[at + rows]! + gathered[at + rows + 1]!;
    isStopWanted ||= gathered[at + rows + 2] !== 0;
    if (!Number.isFinite(total)) badRank ??= rank;
  }
  return { logSumExp_G, total, isStopWanted, badRank };
}
