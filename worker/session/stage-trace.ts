/**
 * The trace of one assignment, in the JSON Trace Event Format that Perfetto and chrome://tracing
 * read: a process per rank, a row per thread. The time base is common to all processes, so that
 * files of several ranks can be put together; each event is a line of its own.
 *
 * Lines are written as they come. A file that breaks off, since the worker was killed, lacks no
 * more than its end, and those programs read it all the same.
 */

import { constants, createWriteStream, type WriteStream } from "node:fs";
import { access } from "node:fs/promises";
import path from "node:path";
import { FleetError } from "../../proto/errors.ts";
import type { Log } from "../../proto/log.ts";
import { makeFolder } from "../../proto/make-folder.ts";
import type { ServedOperation } from "../collective/bridge.ts";
import { type TraceSpan, toSpan } from "../trace/tracer.ts";
import type { EngineThreadMessage } from "../train/stage-job.ts";

/** Rows of a process; sums that overlap in time have a row each, from the last one on. */
const ROWS = { engine: 1, checkpoint: 2, collectives: 10 } as const;

export interface StageTraceOptions {
  /** `--trace`; the file's own name has the generation and the rank, too. */
  readonly file: string;
  readonly experimentId: string;
  readonly stage: string;
  readonly generation: number;
  readonly rank: number;
  readonly log: Log;
}

export class StageTrace {
  readonly #stream: WriteStream;
  readonly #rank: number;
  /** When the last sum on each row has ended. */
  readonly #rowEndsUs: number[] = [];
  #isOver = false;
  #closed: Promise<void> | undefined;

  constructor(options: StageTraceOptions) {
    const { experimentId, stage, generation, rank, log } = options;
    const file = traceFileOf(options.file, { generation, rank });
    this.#rank = rank;
    this.#stream = createWriteStream(file);
    this.#stream.on("error", (error) => {
      if (!this.#isOver) log.warn({ event: "trace not written", file, because: error.message });
      this.#isOver = true;
    });
    this.#stream.write("[\n");
    const name = `rank ${rank}: ${experimentId} ${stage}, generation ${generation}`;
    this.#name("process_name", 0, name);
    this.#name("thread_name", ROWS.engine, "engine thread");
    this.#name("thread_name", ROWS.checkpoint, "checkpoint thread");
    this.#write({ name: "process_sort_index", ph: "M", args: { sort_index: rank } });
    log.info({ event: "trace begins", file });
  }

  /** What the engine thread has told. */
  spans({ spans, isLast }: Extract<EngineThreadMessage, { type: "trace" }>): void {
    for (const span of spans) this.#span(span, ROWS.engine);
    if (isLast) void this.close();
  }

  /** A checkpoint that has just become durable. */
  checkpoint({ step, bytes, seconds }: Record<"step" | "bytes" | "seconds", number>): void {
    const endMs = performance.now();
    const time = { beginMs: endMs - 1_000 * seconds, endMs };
    this.#span(toSpan("write checkpoint", time, { step, bytes }), ROWS.checkpoint);
  }

  /** What the main thread did beside the engine thread; what that waited for, it tells itself. */
  served({ type, bytes, ...time }: ServedOperation): void {
    if (type !== "all-reduce" && type !== "reduce-scatter") return;
    const span = toSpan(type, time, { bytes });
    const free = this.#rowEndsUs.findIndex((endUs) => endUs <= span.beginUs);
    const row = free < 0 ? this.#rowEndsUs.length : free;
    if (free < 0) this.#name("thread_name", ROWS.collectives + row, `sums ${row}`);
    this.#rowEndsUs[row] = span.endUs;
    this.#span(span, ROWS.collectives + row);
  }

  /** Resolves when the file is whole, or cannot be. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    if (this.#isOver) return;
    const end = { name: "end", ph: "i", ts: toSpan("", now()).endUs, s: "p" };
    this.#stream.write(`${this.#line({ ...end, tid: ROWS.engine })}\n]\n`);
    this.#isOver = true;
    await new Promise<void>((resolve) => {
      this.#stream.once("error", () => resolve());
      this.#stream.end(() => resolve());
    });
  }

  #name(kind: "process_name" | "thread_name", tid: number, name: string): void {
    this.#write({ name: kind, ph: "M", tid, args: { name } });
  }

  #span({ name, beginUs, endUs, facts }: TraceSpan, tid: number): void {
    const time = { ts: beginUs, dur: endUs - beginUs };
    this.#write({ name, ph: "X", ...time, tid, ...(facts && { args: facts }) });
  }

  #write(event: Readonly<Record<string, unknown>>): void {
    if (!this.#isOver) this.#stream.write(`${this.#line(event)},\n`);
  }

  #line(event: Readonly<Record<string, unknown>>): string {
    return JSON.stringify({ ...event, pid: this.#rank });
  }
}

function now(): { readonly beginMs: number; readonly endMs: number } {
  const ms = performance.now();
  return { beginMs: ms, endMs: ms };
}

/**
 * Makes the folder of the files, so that a wrong one shows when the worker starts.
 *
 * @throws {FleetError} STORAGE_FAILED
 */
export async function makeTraceFolder(file: string): Promise<void> {
  const folder = path.resolve(path.dirname(file));
  try {
    makeFolder(folder);
    await access(folder, constants.W_OK);
  } catch (thrown) {
    const { message } = FleetError.from(thrown);
    throw new FleetError("STORAGE_FAILED", `--trace cannot write into ${folder}: ${message}`);
  }
}

/** e.g. traces/run-g3-rank-0.json for traces/run.json: no two assignments share a generation. */
function traceFileOf(
  file: string,
  { generation, rank }: { readonly generation: number; readonly rank: number },
): string {
  const { dir, name, ext } = path.parse(file);
  return path.join(dir, `${name}-g${generation}-rank-${rank}${ext || ".json"}`);
}
