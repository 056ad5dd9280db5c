/** An answer that others take time to give, asked for now and then, however many want to know. */

import { within } from "../../proto/within.ts";

const FRESH_MS = 1_000;
/** Whoever wants to know waits so long for a newer answer, and takes the last one then. */
const PATIENCE_MS = 300;

export class Glance<Answer> {
  readonly #ask: () => Promise<Answer>;
  #answer: Answer;
  #askedMs = Number.NEGATIVE_INFINITY;
  #asking: Promise<void> | undefined;

  /** @param ask never rejects */
  constructor(ask: () => Promise<Answer>, initial: Answer) {
    this.#ask = ask;
    this.#answer = initial;
  }

  async latest(): Promise<Answer> {
    const now = performance.now();
    if (!this.#asking && now - this.#askedMs >= FRESH_MS) {
      this.#askedMs = now;
      this.#asking = this.#ask().then((answer) => {
        this.#answer = answer;
        this.#asking = undefined;
      });
    }
    if (this.#asking !== undefined) await within(this.#asking, PATIENCE_MS);
    return this.#answer;
  }
}
