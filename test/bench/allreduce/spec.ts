/** What the bench runs, and what it finds, as its JSON has it. */

import type { PlainError } from "../../../proto/errors.ts";
import type { GroupLink } from "../../../worker/collective/bridge-layout.ts";
import type { Wire } from "../../../worker/collective/floats.ts";
import type { Peer } from "../../../worker/collective/membership.ts";

/** How the ranks' bulk data travels. */
export const TRANSPORTS = ["auto", "grpc"] as const;

export interface AllReduceSpec {
  readonly world: number;
  /** Of the float32 buffers. */
  readonly bytes: readonly number[];
  readonly wire: Wire;
  /** Measured calls above 1 MiB; smaller buffers are measured 40 times as often. */
  readonly iters: number;
  /** `auto` is a worker's own choice; `grpc` keeps all data in the streams. */
  readonly transport: (typeof TRANSPORTS)[number];
}

export interface SizeResult {
  readonly bytes: number;
  /** Of rank 0's calls, each after a barrier. */
  readonly median_s: number;
  /** bytes / median_s * 2 (W - 1) / W, in 10^6 bytes a second. */
  readonly busbw_MBps: number;
}

/**
 * Two, as the peer makes. Small buffers take more: a ResNet-50 step has a hundred small exchanges,
 * so that what counts is code that has been compiled by then.
 */
export function warmupCallsOf(bytes: number): number {
  return bytes > 1 << 20 ? 2 : 1000;
}

/** The peer measures as many. */
export function callsOf(bytes: number, iters: number): number {
  return bytes > 1 << 20 ? iters : 40 * iters;
}

export function resultOf(spec: AllReduceSpec, bytes: number, seconds: readonly number[]) {
  const median_s = seconds.toSorted((a, b) => a - b)[seconds.length >> 1] ?? Number.NaN;
  const share = (2 * (spec.world - 1)) / spec.world;
  const busbw_MBps = Number(((bytes / median_s / 1e6) * share).toFixed(1));
  return { bytes, median_s: Number(median_s.toFixed(9)), busbw_MBps } satisfies SizeResult;
}

/** Bench to rank: all ranks listen. */
export interface RankTask {
  readonly rank: number;
  readonly peers: readonly Peer[];
  readonly spec: AllReduceSpec;
}

/** Rank to bench. */
export type RankMessage =
  | { readonly type: "listening"; readonly address: string }
  | { readonly type: "measured"; readonly results: readonly SizeResult[] }
  | { readonly type: "failed"; readonly error: PlainError };

/** What a rank starts its engine thread with. */
export interface RankThreadData {
  readonly link: GroupLink;
  readonly spec: AllReduceSpec;
}
