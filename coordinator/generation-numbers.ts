/** Numbers for the next gangs, drawn ahead, so that forming one need not wait for Redis. */

import type { Log } from "../proto/log.ts";
import type { Store } from "./store/store.ts";

const DRAWN_AHEAD = 4;

export class GenerationNumbers {
  readonly #store: Pick<Store, "drawGenerations">;
  readonly #log: Log;
  readonly #numbers: number[] = [];
  #isDrawing = false;

  constructor(store: Pick<Store, "drawGenerations">, log: Log) {
    this.#store = store;
    this.#log = log;
  }

  /** The next number; undefined when Redis has to be waited for. */
  take(): number | undefined {
    return this.#numbers.shift();
  }

  add(numbers: readonly number[]): void {
    this.#numbers.push(...numbers);
  }

  /** Draws more if none is left; `onDrawn` gets them. */
  draw(onDrawn: (generations: readonly number[]) => void): void {
    if (this.#isDrawing || this.#numbers.length > 0) return;
    this.#isDrawing = true;
    this.#store
      .drawGenerations(DRAWN_AHEAD)
      // The next tick asks again; the connection has reported its loss.
      .then(onDrawn, (error: Error) =>
        this.#log.debug({ event: "no generations", because: error.message }),
      )
      .finally(() => {
        this.#isDrawing = false;
      });
  }
}
