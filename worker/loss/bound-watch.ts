/**
 * Whether the contrastive loss comes away from ln(2N - 1), its value when embeddings tell nothing
 * apart. Pure: the same losses give the same verdict on every rank, and after an interruption.
 *
 * What a step has learned is measured on a scale that means the same for all batches and
 * temperatures: 0 is the bound, 1 is a batch whose pairs are alike (cosine 1) and everything else
 * is unrelated (cosine 0).
 */

import { uninformedLoss } from "./nt-xent.ts";

/** Below this share of the scale, 0 to 1, the loss sits at its bound. */
const REACHED_SHARE = 0.05;
/** Above this one it has left it. */
const LEFT_SHARE = 0.08;
/** Weight of the newest step in the running mean. */
const SMOOTHING = 0.05;
/** Steps that a run is given, and its first epoch in any case, before it is judged. */
const SETTLING_STEPS = 200;

export interface BoundState {
  /** Running mean of what the steps have learned, on the scale from 0 to 1. */
  readonly share: number;
  readonly isReached: boolean;
}

export interface BoundObservation {
  readonly loss: number;
  /** N: images of the global batch. */
  readonly images: number;
  readonly temperature: number;
  /** Counted from 1. */
  readonly step: number;
  readonly stepsPerEpoch: number;
}

/** ln(2N - 1) for a global batch of N images. */
export function lossBound(images: number): number {
  return uninformedLoss(2 * images);
}

/** The state after one more step. A batch of one image has no bound and changes nothing. */
export function watchBound(
  before: BoundState | undefined,
  { loss, images, temperature, step, stepsPerEpoch }: BoundObservation,
): BoundState | undefined {
  if (images < 2) return before;
  const bound = lossBound(images);
  const learned = Math.log(1 + (2 * images - 2) * Math.exp(-1 / temperature));
  const newest = (bound - loss) / (bound - learned);
  const share = before ? before.share + SMOOTHING * (newest - before.share) : newest;
  if (step < Math.max(SETTLING_STEPS, stepsPerEpoch)) return { share, isReached: false };
  const limit = before?.isReached ? LEFT_SHARE : REACHED_SHARE;
  return { share, isReached: share < limit };
}
