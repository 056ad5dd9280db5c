/**
 * For how long a peer has been silent, as far as this process could have heard it.
 *
 * A process that stalls (a long garbage collection, a suspended machine) hears nothing meanwhile
 * and must not blame its peers: however late a tick comes, it counts for two at most, and what has
 * arrived in the stall is heard before the next one.
 */
export class Silence {
  readonly #tickMs: number;
  #silentMs = 0;
  #lastTickAt: number | undefined;

  constructor(tickMs: number) {
    this.#tickMs = tickMs;
  }

  heard(): void {
    this.#silentMs = 0;
  }

  /** To be called once a tick. */
  lengthAt(nowMs: number): number {
    const elapsedMs = nowMs - (this.#lastTickAt ?? nowMs);
    this.#silentMs += Math.min(elapsedMs, 2 * this.#tickMs);
    this.#lastTickAt = nowMs;
    return this.#silentMs;
  }
}
