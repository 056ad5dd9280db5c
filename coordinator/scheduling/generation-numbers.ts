/** Numbers for the next gangs, drawn ahead, so that forming one need not wait for Redis. */

import type { Log } from "../../proto/log.ts";
import type { Store } from "../store/store.ts";

const DRAWN_AHEAD = 4;

export class GenerationNumbers {
  readonly #store: Pick<Store, "drawGenerations">;
  readonly #log: Log;
  #numbers: readonly number[] = [];
  /** Highest number that is known to be used, or drawn to be. */
  #highest = 0;
  #isDrawing = false;

  constructor(store: Pick<Store, "drawGenerations">, log: Log) {
    this.#store = store;
    this.#log = log;
  }

  /** The next number; undefined when Redis has to be waited for. */
  take(): number | undefined {
    const [next, ...later] = this.#numbers;
    this.#numbers = later;
    return next;
  }

  add(numbers: readonly number[]): void {
    this.#numbers = [...this.#numbers, ...numbers];
    this.#highest = Math.max(this.#highest, ...numbers);
  }

  /** A gang has this number, wherever it was drawn: none up to it is given out any more. */
  isUsed(generation: number): void {
    this.#numbers = this.#numbers.filter((number) => number > generation);
    this.#highest = Math.max(this.#highest, generation);
  }

  /** Draws more if none is left; `onDrawn` gets them. */
  draw(onDrawn: (generations: readonly number[]) => void): void {
    if (this.#isDrawing || this.#numbers.length > 0) return;
    this.#isDrawing = true;
    this.#store
      .drawGenerations(DRAWN_AHEAD, this.#highest)
      // The next tick asks again; the connection has reported its loss.
      .then(onDrawn, (error: Error) =>
        this.#log.debug({ event: "no generations", because: error.message }),
      )
      .finally(() => {
        this.#isDrawing = false;
      });
  }
}
