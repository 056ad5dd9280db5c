/**
 * How long a collective may take before the generation is given up. Training repeats the same
 * operations, so that each is judged by how long its likes took lately: a step of a second and one
 * of ten minutes need different limits, and nobody has to configure them.
 *
 * A lost peer is found much sooner, by its silence. What is found here is one that lives and makes
 * no progress.
 */

/** Without anything to compare with: a rank may have to warm up, or to fetch its data first. */
export const FIRST_MS = 600_000;
/** Allows for a pause that has no likes, as rank 0 takes to write a checkpoint. */
const SHORTEST_MS = 60_000;
const SLOWER_THAN_BEFORE = 20;
/** Of one kind that are remembered. */
const REMEMBERED = 32;

export class Deadlines {
  readonly #fixedMs: number | undefined;
  /** By kind and size, the latest durations in milliseconds. */
  readonly #durations = new Map<string, number[]>();

  /** @param fixedMs takes the place of what would be found */
  constructor(fixedMs?: number) {
    this.#fixedMs = fixedMs;
  }

  /** An operation of this kind and size has taken so long. */
  record(likes: string, durationMs: number): void {
    const durations = this.#durations.get(likes) ?? [];
    durations.push(durationMs);
    if (durations.length > REMEMBERED) durations.shift();
    this.#durations.set(likes, durations);
  }

  /** Milliseconds that an operation of this kind and size may take. */
  limitOf(likes: string): number {
    if (this.#fixedMs !== undefined) return this.#fixedMs;
    const durations = this.#durations.get(likes);
    if (durations === undefined) return FIRST_MS;
    return Math.max(SHORTEST_MS, SLOWER_THAN_BEFORE * Math.max(...durations));
  }
}
