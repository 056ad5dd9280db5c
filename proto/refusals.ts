/**
 * What was refused, by reason: counted always, logged as often as a person can read. A flood must
 * not flood the log.
 */

import type { Log } from "./log.ts";
import { TokenBucket } from "./token-bucket.ts";

const LINES = { burst: 20, perSecond: 1 } as const;

export class Refusals<Reason extends string> {
  readonly #counts: Map<Reason, number>;
  readonly #log: Log;
  readonly #event: string;
  readonly #lines = new TokenBucket(LINES, performance.now());
  #unlogged = 0;

  /** @param options.event what the log calls a refusal */
  constructor(options: {
    readonly reasons: readonly Reason[];
    readonly log: Log;
    readonly event: string;
  }) {
    this.#counts = new Map(options.reasons.map((reason) => [reason, 0]));
    this.#log = options.log;
    this.#event = options.event;
  }

  /** Since the start, a zero for reasons that never were included. */
  get counts(): ReadonlyMap<Reason, number> {
    return this.#counts;
  }

  /** @param facts for the log; never secrets */
  add(reason: Reason, facts: Readonly<Record<string, unknown>>): void {
    this.#counts.set(reason, (this.#counts.get(reason) ?? 0) + 1);
    if (!this.#lines.take(performance.now())) {
      this.#unlogged += 1;
      return;
    }
    const unlogged = this.#unlogged === 0 ? {} : { unlogged: this.#unlogged };
    this.#log.warn({ event: this.#event, reason, ...facts, ...unlogged });
    this.#unlogged = 0;
  }
}
