/**
 * A member of a gang in a process of its own. The parent sends one {@link MemberTask} over the IPC
 * channel; the process carries it out, checks every result, leaves the group and ends by itself
 * once nothing keeps it alive. Started with an argument, it sends what a relay makes of its frames.
 */

import { on, once } from "node:events";
import { readFileSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { FleetError, type PlainError } from "../../../proto/errors.ts";
import { bridgeGroup } from "../../../worker/collective/bridge.ts";
import type { JoinOptions, PeerGroup } from "../../../worker/collective/peer-group.ts";
import { joinGroup } from "../../../worker/collective/peer-group.ts";
import { CheckedOperations, type Operation, WrongResult } from "./checked-operations.ts";
import type { EngineResult, EngineTask, EngineTaskData } from "./engine-thread.ts";
import { type FrameFaultInjection, startFrameRelay } from "./frame-relay.ts";
import { joinDefaults, startLoopbackServer } from "./gang.ts";

export interface MemberTask {
  readonly rank: number;
  readonly peers: JoinOptions["peers"];
  readonly join?: JoinOverrides;
  /** Carried out in order, again and again. */
  readonly operations: readonly Operation[];
  /** How many to carry out in all; for ever when absent. */
  readonly count?: number;
  readonly halt?: Halt;
  /** Where the operations' buffer lies. Default `allocated`. */
  readonly memory?: "allocated" | "plain";
  /** Carried out by an engine thread, instead of operations. */
  readonly engine?: EngineTask;
  /** After how many operations to collect garbage and report the memory. */
  readonly measureAfter?: readonly number[];
}

/** What of JoinOptions can travel as JSON. */
export interface JoinOverrides extends Partial<Pick<JoinOptions, (typeof OVERRIDABLE)[number]>> {
  /** Whether large chunks may travel otherwise than over a connection. */
  readonly sharedMemory?: boolean;
}
const OVERRIDABLE = ["wire", "formationTimeoutMs", "opTimeoutMs", "silenceTimeoutMs"] as const;

/** Where this member stops going on, and how. */
export interface Halt {
  /** Of the operation, counted over all that are carried out. */
  readonly index: number;
  /** `during`: once some of the others' data has arrived. */
  readonly when: "before" | "during" | "after";
  /** `freeze` blocks the thread, so that nothing is answered; `idle` only starts nothing more. */
  readonly how: "freeze" | "idle";
  /** Of a freeze; for ever when absent. */
  readonly forMs?: number;
}

export type MemberMessage =
  | { readonly type: "listening"; readonly address: string }
  | { readonly type: "formed" }
  /** The engine thread is in the middle of its task. */
  | { readonly type: "under way" }
  | { readonly type: "halted"; readonly index: number }
  /** The relay has done to one frame what it was started for. */
  | { readonly type: "injected"; readonly at: number }
  /** An operation is complete, and its result is right. */
  | { readonly type: "done"; readonly index: number }
  | { readonly type: "wrong"; readonly index: number; readonly message: string }
  /** Resident: of this process alone, and shared with others. And what is reachable in it. */
  | {
      readonly type: "memory";
      readonly ownBytes: number;
      readonly sharedBytes: number;
      readonly liveBytes: number;
    }
  /** The operation `index` was rejected, `at` in epoch milliseconds. */
  | {
      readonly type: "failed";
      readonly at: number;
      readonly index: number;
      readonly error: PlainError;
    }
  /** Group and server are closed. */
  | { readonly type: "closed"; readonly aborts: number };

/** No freeze lasts longer, so that no process is left when the parent is gone. */
const FREEZE_MS_MAX = 60_000;

const injection = process.argv[2];
const server = await startLoopbackServer();
const relay =
  injection === undefined
    ? undefined
    : await startFrameRelay(server.address, JSON.parse(injection) as FrameFaultInjection, () => {
        void tell({ type: "injected", at: epochMs() });
      });

const orphaned = () => process.exit(1);
process.once("disconnect", orphaned);
process.once("message", (task: MemberTask) => {
  void carryOut(task);
});
await tell({ type: "listening", address: relay?.address ?? server.address });

async function carryOut(task: MemberTask): Promise<void> {
  let aborts = 0;
  let index = 0;
  let group: PeerGroup | undefined;
  try {
    const options = { ...joinDefaults(server, task.rank), peers: task.peers, ...task.join };
    group = await joinGroup(options);
    void group.failed.then(() => aborts++);
    await tell({ type: "formed" });
    if (task.engine !== undefined) await runEngine(group, task.engine);
    const memory = task.memory ?? "allocated";
    const operations = await CheckedOperations.in(memory, group, task.operations);
    for (; index < (task.count ?? Number.POSITIVE_INFINITY); index++) {
      await carryOutOne(group, operations, index, task);
    }
  } catch (thrown) {
    if (thrown instanceof WrongResult) {
      await tell({ type: "wrong", index, message: thrown.message });
      group?.abort(new FleetError("UNEXPECTED", thrown.message));
    } else {
      const error = FleetError.from(thrown).toPlain();
      await tell({ type: "failed", at: epochMs(), index, error });
    }
  }
  await group?.close();
  await server.close();
  relay?.close();
  await tell({ type: "closed", aborts });
  process.off("disconnect", orphaned);
  process.disconnect();
}

/** Throws what ends the task, and WrongResult when it ends by itself. */
async function runEngine(group: PeerGroup, task: EngineTask): Promise<void> {
  const bridge = await bridgeGroup(group);
  const data: EngineTaskData = { link: bridge.link, task };
  const engine = new Worker(new URL("./engine-thread.js", import.meta.url), {
    workerData: data,
    transferList: [bridge.link.port],
  });
  const exited = once(engine, "exit");
  for await (const [message] of on(engine, "message")) {
    if (message === "under way") {
      await tell({ type: "under way" });
      continue;
    }
    await exited;
    bridge.close();
    const { values, error } = message as EngineResult;
    throw error ? FleetError.fromPlain(error) : new WrongResult(`round ${values?.[0]}`);
  }
}

async function carryOutOne(
  group: PeerGroup,
  operations: CheckedOperations,
  index: number,
  { halt, measureAfter }: MemberTask,
): Promise<void> {
  const halting = halt?.index === index ? halt : undefined;
  if (halting?.when === "before") await haltIn(group, halting);
  const running = operations.run(index);
  if (halting?.when === "during") {
    // Whatever ends the operation is thrown below.
    const over = running.catch(() => {}).then(() => true);
    while (!operations.isUnderWay && !(await Promise.race([over, setImmediate(false)])));
    await haltIn(group, halting);
  }
  await running;
  await tell({ type: "done", index });
  if (halting?.when === "after") await haltIn(group, halting);
  if (!measureAfter?.includes(index + 1)) return;
  globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  const [ownBytes, sharedBytes] = [residentBytes("RssAnon"), residentBytes("RssShmem")];
  await tell({ type: "memory", ownBytes, sharedBytes, liveBytes: heapUsed + external });
}

function residentBytes(field: string): number {
  const status = readFileSync("/proc/self/status", "latin1");
  return 1024 * Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(status)?.[1]);
}

async function haltIn(group: PeerGroup, { how, forMs, index }: Halt): Promise<void> {
  await tell({ type: "halted", index });
  if (how === "idle") throw await group.failed;
  const nothing = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
  Atomics.wait(nothing, 0, 0, forMs ?? FREEZE_MS_MAX);
  if (forMs === undefined) process.exit(1);
}

/** Resolves when the parent can read the message, whatever happens to this process next. */
function tell(message: MemberMessage): Promise<void> {
  return new Promise((resolve) => {
    process.send?.(message, undefined, undefined, () => resolve());
  });
}

function epochMs(): number {
  return performance.timeOrigin + performance.now();
}
