/** What the bench runs, the same on both sides, and what it finds. */

/** A ResNet-18 with the stem for small images, trained by SimCLR. */
export interface RecoverySpec {
  readonly world: number;
  /** Images of each rank in a step. */
  readonly batch: number;
  /** Edge of the square images. */
  readonly size: number;
  /** Workers that are killed, one after the other, each once training goes on. */
  readonly kills: number;
  /** Width of the network; 1 but for tests. The peer has no other. */
  readonly width: number;
}

/** Seconds from each SIGKILL to the next step that was applied. */
export type Recoveries = readonly number[];

/** Steps that are waited for before each kill: the gang has settled then. */
export const STEPS_BEFORE_KILL = 5;

/** Longest time until the next step, whatever happened. */
export const STEP_TIMEOUT_MS = 120_000;
