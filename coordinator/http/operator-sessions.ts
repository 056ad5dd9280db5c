/** Browsers that have shown the operator token, by the random ids in their cookies. */

import { randomBytes } from "node:crypto";

export const SESSION_MS = 12 * 3_600_000;

export class OperatorSessions {
  readonly #max: number;
  /** When each ends, oldest first; by the clock of `nowMs`. */
  readonly #ends = new Map<string, number>();

  constructor(max: number) {
    this.#max = max;
  }

  /** Begins one, and ends the oldest when there are too many. */
  begin(nowMs: number): string {
    for (const [id, endMs] of this.#ends) {
      if (endMs <= nowMs || this.#ends.size >= this.#max) this.#ends.delete(id);
    }
    const id = randomBytes(32).toString("base64url");
    this.#ends.set(id, nowMs + SESSION_MS);
    return id;
  }

  has(id: string, nowMs: number): boolean {
    return (this.#ends.get(id) ?? 0) > nowMs;
  }

  end(id: string): void {
    this.#ends.delete(id);
  }
}
