/**
 * Lines of logs, kept in Redis by experiment: they outlive the worker that wrote them, and the
 * coordinator. Each experiment has a stream PREFIX:log:ID, of which the oldest lines are dropped.
 *
 * Lines are numbered from 1 on, and a number is the id of its entry. A line that is lost on the way
 * takes its number along, so a reader sees from the gap how many are missing. Whatever fails here
 * costs lines, and nothing else: nobody waits for one to be written.
 */

import type { Redis } from "ioredis";
import { LINE_LEVELS, type LineLevel, type LogRecord } from "../../proto/log-line.ts";
import { within } from "../../proto/within.ts";
import type { Leadership } from "./leadership.ts";
import { APPEND_LOG } from "./leadership-scripts.ts";
import { reachRedis } from "./redis-connection.ts";

/** Of an experiment; Redis drops them by the hundred. */
const KEPT_MAX = 5_000;
/** That wait to be written; Redis takes thousands a second. */
const WAITING_MAX = 5_000;
/** As many are written, and read, at a time. */
const PAGE_LINES = 256;
/** A reader that hears of no news looks all the same: another coordinator may have written. */
const LOOK_MS = 1_000;
/** Lines are not worth more of a wait. */
const SETTLE_MS = 1_000;

export interface KeptLine extends LogRecord {
  /** Its number in the experiment's log. */
  readonly cursor: number;
}

export interface LogQuery {
  readonly experimentId: string;
  readonly rank?: number;
  /** Of this level and those above it. */
  readonly level?: LineLevel;
  /** The newest so many of those that are kept. */
  readonly last?: number;
  /** Those after the line of this number; of no effect with `last`. */
  readonly after?: number;
}

export interface LogBatch {
  /** Lines of any rank before these that are not kept. */
  readonly dropped: number;
  /** Oldest first. */
  readonly lines: readonly KeptLine[];
}

export class LogStore {
  readonly #redis: Redis;
  readonly #leadership: Pick<Leadership, "run">;
  readonly #prefix: string;
  readonly #address: string;
  /** By experiment. */
  readonly #waiting = new Map<string, readonly LogRecord[]>();
  /** Lines of each that were lost since one was written. */
  readonly #lost = new Map<string, number>();
  /** Number of each experiment's newest line: a Redis that lost its last writes forgets some. */
  readonly #newest = new Map<string, number>();
  /** Called when lines of an experiment were written. */
  readonly #listeners = new Map<string, Set<() => void>>();
  #waitingLines = 0;
  #writing: Promise<void> | undefined;

  constructor(options: {
    readonly redis: Redis;
    readonly leadership: Pick<Leadership, "run">;
    readonly prefix: string;
    /** Of Redis, for messages. */
    readonly address: string;
  }) {
    this.#redis = options.redis;
    this.#leadership = options.leadership;
    this.#prefix = options.prefix;
    this.#address = options.address;
  }

  /** Where the lines of an experiment lie. */
  keyOf(experimentId: string): string {
    return `${this.#prefix}:log:${experimentId}`;
  }

  /**
   * Takes lines of one experiment, and writes them soon.
   *
   * @param dropped lines before these that were lost on the way
   */
  append(experimentId: string, records: readonly LogRecord[], dropped = 0): void {
    const taken = records.slice(0, Math.max(0, WAITING_MAX - this.#waitingLines));
    this.#lose(experimentId, dropped + records.length - taken.length);
    if (taken.length === 0) return;
    this.#waitingLines += taken.length;
    this.#waiting.set(experimentId, [...(this.#waiting.get(experimentId) ?? []), ...taken]);
    this.#writing ??= this.#write().finally(() => {
      this.#writing = undefined;
    });
  }

  /** Lets go of what it knows about an experiment whose lines are removed. */
  forget(experimentId: string): void {
    this.#newest.delete(experimentId);
    this.#lost.delete(experimentId);
    this.#waitingLines -= this.#waiting.get(experimentId)?.length ?? 0;
    this.#waiting.delete(experimentId);
  }

  /** Resolves when what was appended so far is written, or lost; after a while in any case. */
  async settled(): Promise<void> {
    if (this.#writing !== undefined) await within(this.#writing, SETTLE_MS);
  }

  /**
   * The lines that are kept.
   *
   * @throws {FleetError} REDIS_UNREACHABLE
   */
  async read(query: LogQuery): Promise<LogBatch> {
    const lines: KeptLine[] = [];
    let dropped = 0;
    for await (const page of this.pages(query)) {
      dropped += page.dropped;
      lines.push(...page.lines);
    }
    return { dropped, lines };
  }

  /**
   * As {@link read}, page by page: a reader takes as long as it likes, and holds one page.
   *
   * @throws {FleetError} REDIS_UNREACHABLE
   */
  async *pages(query: LogQuery): AsyncGenerator<LogBatch, void, undefined> {
    yield* this.#pagesAfter(query, await this.#startOf(query), () => {});
  }

  /**
   * The lines that are kept, and then those to come, until `signal` is aborted; what has come by
   * then is the last. Redis may be away meanwhile, once there was a first page.
   *
   * @throws {FleetError} REDIS_UNREACHABLE
   */
  async *follow(query: LogQuery, signal: AbortSignal): AsyncGenerator<LogBatch, void, undefined> {
    let at = await this.#startOf(query);
    let hasRead = false;
    for (;;) {
      const isLast = signal.aborted;
      const news = this.#listen(query.experimentId, signal);
      try {
        try {
          yield* this.#pagesAfter(query, at, (cursor) => {
            at = cursor;
          });
          hasRead = true;
        } catch (thrown) {
          if (!hasRead) throw thrown;
        }
        if (isLast) return;
        await news.heard;
      } finally {
        news.close();
      }
    }
  }

  /** @param onRead told the number of the last line that a page has seen, whether it fits or not */
  async *#pagesAfter(
    query: LogQuery,
    after: number,
    onRead: (cursor: number) => void,
  ): AsyncGenerator<LogBatch, void, undefined> {
    let at = after;
    for (;;) {
      const page = await this.#page(query.experimentId, at);
      for (const { dropped, lines } of splitAtGaps(page, at)) {
        at = lines.at(-1)?.cursor ?? at;
        onRead(at);
        const wanted = lines.filter((line) => fits(line, query));
        if (wanted.length > 0 || dropped > 0) yield { dropped, lines: wanted };
      }
      if (page.length < PAGE_LINES) return;
    }
  }

  async #page(experimentId: string, after: number): Promise<KeptLine[]> {
    const key = this.keyOf(experimentId);
    const entries = await this.#reach(() =>
      this.#redis.xrange(key, `(${after}-0`, "+", "COUNT", PAGE_LINES),
    );
    return entries.map(toLine);
  }

  /** The number of the line before the first one that is wanted. */
  async #startOf(query: LogQuery): Promise<number> {
    const { experimentId, last, after = 0 } = query;
    if (last === undefined) return after;
    const key = this.keyOf(experimentId);
    let missing = last;
    let before = "+";
    for (;;) {
      const entries = await this.#reach(() =>
        this.#redis.xrevrange(key, before, "-", "COUNT", PAGE_LINES),
      );
      for (const line of entries.map(toLine)) {
        if (missing === 0) return line.cursor;
        if (fits(line, query)) missing -= 1;
        before = `(${line.cursor}-0`;
      }
      if (entries.length < PAGE_LINES) return 0;
    }
  }

  /** Listens from the call on, so that what comes while a page is read is not missed. */
  #listen(experimentId: string, signal: AbortSignal): { heard: Promise<void>; close(): void } {
    const listeners = this.#listeners.get(experimentId) ?? new Set();
    this.#listeners.set(experimentId, listeners);
    let hear!: () => void;
    const heard = new Promise<void>((resolve) => {
      hear = resolve;
    });
    const timer = setTimeout(hear, LOOK_MS);
    listeners.add(hear);
    signal.addEventListener("abort", hear, { once: true });
    return {
      heard,
      close: () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", hear);
        listeners.delete(hear);
        if (listeners.size === 0) this.#listeners.delete(experimentId);
      },
    };
  }

  async #write(): Promise<void> {
    // Lines that come in the same turn are written together.
    await Promise.resolve();
    for (;;) {
      const [next] = this.#waiting;
      if (!next) return;
      const [id, records] = next;
      this.#waiting.delete(id);
      for (let at = 0; at < records.length; at += PAGE_LINES) {
        await this.#writePage(id, records.slice(at, at + PAGE_LINES));
      }
      for (const hear of this.#listeners.get(id) ?? []) hear();
    }
  }

  async #writePage(id: string, records: readonly LogRecord[]): Promise<void> {
    const lost = this.#lost.get(id) ?? 0;
    const lines = records.map((record) => JSON.stringify(record));
    const fields = [KEPT_MAX, lost, this.#newest.get(id) ?? 0, ...lines];
    this.#waitingLines -= records.length;
    try {
      const last = await this.#leadership.run(APPEND_LOG, [this.keyOf(id)], fields);
      this.#newest.set(id, Number(last));
      this.#lost.delete(id);
    } catch {
      // Redis is away, or another coordinator leads: the next line that gets through tells.
      this.#lose(id, records.length);
    }
  }

  #lose(id: string, lines: number): void {
    if (lines > 0) this.#lost.set(id, (this.#lost.get(id) ?? 0) + lines);
  }

  async #reach<Result>(work: () => Promise<Result>): Promise<Result> {
    return await reachRedis(this.#address, work);
  }
}

/** Lines that follow one another, and how many are missing before them. */
function* splitAtGaps(page: readonly KeptLine[], after: number): Generator<LogBatch> {
  let before = after;
  let begin = 0;
  for (const [index, { cursor }] of page.entries()) {
    if (page[index + 1]?.cursor === cursor + 1) continue;
    const lines = page.slice(begin, index + 1);
    yield { dropped: (lines[0]?.cursor ?? 0) - before - 1, lines };
    before = cursor;
    begin = index + 1;
  }
}

function fits({ rank, level }: KeptLine, query: LogQuery): boolean {
  if (query.rank !== undefined && rank !== query.rank) return false;
  return (
    query.level === undefined || LINE_LEVELS.indexOf(level) >= LINE_LEVELS.indexOf(query.level)
  );
}

function toLine([id, fields]: [id: string, fields: string[]]): KeptLine {
  return { ...(JSON.parse(fields[1] ?? "{}") as LogRecord), cursor: Number.parseInt(id, 10) };
}
