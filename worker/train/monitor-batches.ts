/** The engine thread's side of a monitor's data: asks for a pass over a split, and makes it. */

import { receiveMessageOnPort } from "node:worker_threads";
import { FleetError } from "../../proto/errors.ts";
import { type Batch, type BatchReader, openBatches } from "../data/batch-reader.ts";
import { indicesOf } from "../data/load-plan.ts";
import { throwIfStopped } from "./stage-context.ts";
import {
  CONTROL_ANSWERS,
  type MonitorAnswer,
  type MonitorJob,
  type MonitorRequest,
  type MonitorSplit,
  type StageJob,
} from "./stage-job.ts";

/** Longest wait before the stop word is looked at again, should a wake-up get lost. */
const WAIT_MS = 1000;

/**
 * Calls `visit` once per step of a pass: equally often on all ranks, so that it may make
 * collectives. A rank whose share is shorter, or cannot be read, gets no batch in the end.
 *
 * @throws {FleetError} GENERATION_ABORTED, and what the loaders fail with
 */
export function passOver(
  job: StageJob,
  monitor: MonitorJob,
  split: MonitorSplit,
  visit: (batch: Batch | undefined, step: number) => void,
): void {
  const { plan, count } = monitor.splits[split];
  const longest = indicesOf({ ...plan, rank: 0 }, count, 0).length;
  const steps = Math.ceil(longest / plan.batchPerWorker);
  const reader = open(job, monitor, split);
  for (let step = 0; step < steps; step++) {
    throwIfStopped(job);
    const batch = reader.next();
    visit(batch, step);
    if (batch) reader.done();
  }
  request(monitor, { type: "close" });
}

function open(job: StageJob, monitor: MonitorJob, split: MonitorSplit): BatchReader {
  const { control } = job;
  const answered = Atomics.load(control, CONTROL_ANSWERS);
  request(monitor, { type: "open", split });
  while (Atomics.load(control, CONTROL_ANSWERS) === answered) {
    throwIfStopped(job);
    Atomics.wait(control, CONTROL_ANSWERS, answered, WAIT_MS);
  }
  throwIfStopped(job);
  const answer = receiveMessageOnPort(monitor.port)?.message as MonitorAnswer | undefined;
  if (answer?.type === "opened") return openBatches(answer.batches);
  throw answer
    ? FleetError.fromPlain(answer.error)
    : new FleetError("UNEXPECTED", "an answer was counted, and none has come");
}

function request({ port }: MonitorJob, message: MonitorRequest): void {
  port.postMessage(message);
}
