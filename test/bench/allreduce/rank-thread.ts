/** Where a worker's engine thread would be: calls the collectives, and takes the time. */

import { once } from "node:events";
import { parentPort } from "node:worker_threads";
import { FleetError } from "../../../proto/errors.ts";
import { connectGroup } from "../../../worker/collective/bridge.ts";
import type { ProcessGroup, SharedFloats } from "../../../worker/collective/process-group.ts";
import {
  type AllReduceSpec,
  callsOf,
  type RankMessage,
  type RankThreadData,
  resultOf,
  type SizeResult,
  warmupCallsOf,
} from "./spec.ts";

try {
  const [{ link, spec }] = (await once(parentPort!, "message")) as [RankThreadData];
  const group = connectGroup(link);
  const results = spec.bytes.map((bytes) => measure(group, spec, bytes));
  group.barrier();
  send({ type: "measured", results });
} catch (thrown) {
  send({ type: "failed", error: FleetError.from(thrown).toPlain() });
}

function measure(group: ProcessGroup, task: AllReduceSpec, bytes: number): SizeResult {
  const buffer = group.allocate(bytes / 4);
  for (let call = 0; call < warmupCallsOf(bytes); call++) {
    buffer.fill(group.rank + 1);
    group.allReduce(buffer).wait();
    check(buffer, (group.worldSize * (group.worldSize + 1)) / 2);
  }
  // Sums of zeros are zero, however often they are taken.
  buffer.fill(0);
  const seconds = Array.from({ length: callsOf(bytes, task.iters) }, () => {
    group.barrier();
    const begin = performance.now();
    group.allReduce(buffer).wait();
    return (performance.now() - begin) / 1000;
  });
  return resultOf(task, bytes, seconds);
}

function check(buffer: SharedFloats, expected: number): void {
  const at = buffer.findIndex((value) => value !== expected);
  if (at < 0) return;
  throw new FleetError("UNEXPECTED", `sum ${at} is ${buffer[at]}, it should be ${expected}`);
}

function send(message: RankMessage): void {
  parentPort?.postMessage(message);
}
