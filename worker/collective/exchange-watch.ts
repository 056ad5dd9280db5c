/**
 * The main thread's eye on the engine threads' exchange: nobody waits there for a rank that will
 * not come. Dead peers are found as everywhere, by their streams.
 */

import { loadLong } from "./bridge-layout.ts";
import { EXCHANGE_KINDS, postedIn } from "./exchange.ts";
import type { HostMemory } from "./host-memory.ts";
import type { GroupStats } from "./reduce-stats.ts";
import type { Overdue } from "./small-lane.ts";

export class ExchangeWatch {
  #memory: HostMemory | undefined;
  readonly #control: SharedArrayBuffer;

  constructor(memory: HostMemory, control: SharedArrayBuffer) {
    this.#memory = memory;
    this.#control = control;
  }

  /** The operation in which the engine thread waits, and the ranks it waits for. */
  get oldest(): Overdue | undefined {
    const posts = loadLong(this.#control, "waitingIn");
    const kind = EXCHANGE_KINDS[loadLong(this.#control, "waitingKind")];
    if (this.#memory === undefined || posts === 0 || kind === undefined) return undefined;
    const missing = this.#memory.byRank.flatMap((piece, rank) =>
      postedIn(piece) < posts ? [rank] : [],
    );
    // It has all it waits for, and will go on in a moment.
    if (missing.length === 0) return undefined;
    const sinceNs = process.hrtime.bigint() - BigInt(loadLong(this.#control, "waitingSinceNs"));
    return {
      what: `${kind} ${posts - 1}`,
      limitMs: loadLong(this.#control, "waitingMaxMs"),
      startedAt: performance.now() - Number(sinceNs) / 1e6,
      missing,
    };
  }

  awaits(rank: number): boolean {
    return this.oldest?.missing.includes(rank) ?? false;
  }

  /** Looks at no rank's memory any more. */
  close(): void {
    this.#memory = undefined;
  }

  get stats(): GroupStats {
    return {
      allReduces: loadLong(this.#control, "exchangeReduces"),
      allReduceBytes: loadLong(this.#control, "exchangeReduceBytes"),
      allReduceSeconds: loadLong(this.#control, "exchangeReduceNs") / 1e9,
    };
  }
}
