/**
 * ReadLogs: an experiment's lines, page by page, and those to come. The next page is read when the
 * one before has been taken: a slow reader holds one, and one that has stopped is cut off.
 */

import type { ServerWritableStream } from "@grpc/grpc-js";
import { z } from "zod";
import { FleetError } from "../../proto/errors.ts";
import type { LogLine, LogLines, ReadLogsRequest } from "../../proto/gen/coordinator.ts";
import { toServiceError } from "../../proto/grpc-errors.ts";
import { LINE_LEVELS } from "../../proto/log-line.ts";
import { toWireStage } from "../../proto/wire-stages.ts";
import { type Experiment, isFinished } from "../experiment/experiment.ts";
import type { Scheduler } from "../scheduling/scheduler.ts";
import type { KeptLine, LogBatch, LogQuery, LogStore } from "../store/log-store.ts";
import { cutOff, forReaders, type StreamOptions } from "./stream-readers.ts";
import { check, count } from "./worker-message.ts";

export interface ReadLogsOptions extends StreamOptions {
  readonly scheduler: Scheduler;
  readonly logs: Pick<LogStore, "pages" | "follow" | "settled">;
}

interface Reading extends ReadLogsOptions {
  /** Aborted when nobody reads any more. */
  readonly gone: AbortSignal;
}

type ReadCall = ServerWritableStream<ReadLogsRequest, LogLines>;

const requestSchema = z.object({
  rank: count.optional(),
  level: z.enum(["", ...LINE_LEVELS], `must be one of ${LINE_LEVELS.join(", ")}`),
  last: count,
});

/** The handler, which keeps count of those who read. */
export function readLogs(options: ReadLogsOptions): (call: ReadCall) => void {
  return forReaders("readers of logs", options, (call) => {
    const query = toQuery(call.request);
    options.scheduler.experiment(query.experimentId);
    const gone = new AbortController();
    for (const event of ["cancelled", "close", "error"]) {
      call.once(event, () => gone.abort());
    }
    send(call, query, { ...options, gone: gone.signal }).catch((thrown) => {
      if (!gone.signal.aborted) call.emit("error", toServiceError(FleetError.from(thrown)));
    });
  });
}

/** @throws {FleetError} USAGE */
function toQuery(request: ReadLogsRequest): LogQuery {
  const { rank, level, last } = check(requestSchema, request, "read_logs");
  return {
    experimentId: request.experimentId,
    ...(rank === undefined ? {} : { rank }),
    ...(level === "" ? {} : { level }),
    ...(last === 0 ? {} : { last }),
  };
}

async function send(call: ReadCall, query: LogQuery, options: Reading): Promise<void> {
  // A caller that follows knows by it that it is connected.
  if (call.request.follow) await written(call, { lines: [], dropped: 0 }, options);
  const batches = call.request.follow ? toTheEnd(query, options) : options.logs.pages(query);
  for await (const batch of batches) {
    await written(call, toWire(query, batch), options);
    if (options.gone.aborted) return;
  }
  call.end();
}

/** What is kept, and what comes until the experiment has ended, or the reader has gone. */
async function* toTheEnd(
  query: LogQuery,
  { scheduler, logs, gone }: Reading,
): AsyncGenerator<LogBatch, void, undefined> {
  const over = new AbortController();
  const end = (): void => over.abort();
  // A worker's lines come before the end that they tell of: they are on their way to Redis.
  const endIfFinished = (experiment: Experiment): void => {
    if (isFinished(experiment)) void logs.settled().then(end);
  };
  gone.addEventListener("abort", end);
  const unwatch = scheduler.watch(query.experimentId, endIfFinished);
  try {
    endIfFinished(scheduler.experiment(query.experimentId));
    yield* logs.follow(query, over.signal);
  } finally {
    unwatch();
    gone.removeEventListener("abort", end);
  }
}

/** Resolves when the next message may follow, or nobody reads any more. */
function written(call: ReadCall, message: LogLines, options: Reading): Promise<void> {
  const { limits, gone } = options;
  return new Promise((resolve) => {
    const stall = setTimeout(() => cutOff(call, options), limits.watchStallMs);
    const settle = (): void => {
      clearTimeout(stall);
      gone.removeEventListener("abort", settle);
      resolve();
    };
    gone.addEventListener("abort", settle);
    call.write(message, settle);
  });
}

function toWire({ experimentId }: LogQuery, { dropped, lines }: LogBatch): LogLines {
  return { dropped, lines: lines.map((line) => toWireLine(experimentId, line)) };
}

function toWireLine(experimentId: string, line: KeptLine): LogLine {
  const { stage, rank, step, cursor, ...rest } = line;
  const place = { experimentId, stage: toWireStage(stage), rank, step };
  return { ...rest, ...place, cursor: String(cursor) };
}
