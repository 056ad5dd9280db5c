/** FleetService: one bidirectional call per worker, turned into the scheduler's events and back. */

import type { ServerDuplexStream } from "@grpc/grpc-js";
import { FleetError } from "../../proto/errors.ts";
import type {
  CoordinatorMessage,
  FleetServiceServer,
  WorkerMessage,
} from "../../proto/gen/coordinator.ts";
import { toServiceError } from "../../proto/grpc-errors.ts";
import type { Connections } from "../../proto/grpc-listener.ts";
import {
  CALL_TIMEOUT_MS,
  FORMATION_TIMEOUT_MS,
  HEARTBEAT_INTERVAL_MS,
} from "../../proto/limits.ts";
import { TokenBuckets } from "../../proto/token-bucket.ts";
import { hostOf } from "../../proto/transport.ts";
import { SOFTWARE_VERSION } from "../../proto/version.ts";
import type { Clock, Scheduler } from "../scheduling/scheduler.ts";
import type { Session } from "../scheduling/scheduler-events.ts";
import type { Leadership } from "../store/leadership.ts";
import type { LogStore } from "../store/log-store.ts";
import type { ControlLimits } from "./control-limits.ts";
import { keepLogLines } from "./log-lines.ts";
import { type ControlRefusals, type RefusalReason, refusalReason } from "./refusal-reasons.ts";
import type { ReportedFailures } from "./reported-failures.ts";
import { SessionDoor } from "./session-door.ts";
import { strayReason } from "./stray-message.ts";
import { parseRegister, parseWorkerMessage, toCoordinatorMessage } from "./worker-message.ts";

export interface FleetServiceOptions {
  readonly scheduler: Scheduler;
  readonly clock: Clock;
  /** Empty when anybody may join. */
  readonly joinToken: string;
  readonly leaseMs: number;
  readonly limits: ControlLimits;
  readonly refusals: ControlRefusals;
  readonly failures: Pick<ReportedFailures, "add">;
  readonly connections: Connections;
  readonly leadership: Pick<Leadership, "epoch" | "meet">;
  readonly logs: Pick<LogStore, "append">;
}

type Call = ServerDuplexStream<WorkerMessage, CoordinatorMessage>;

/** As many as WorkerMessage has cases. */
const KINDS_MAX = 10;
/** What is over its rate is read no faster than one a pause, so that it costs little. */
const FLOOD_PAUSE_MS = 1;
/** How long a reader that was too slow may take to read that, before its connection is cut. */
const CUT_MS = 2_000;

export function fleetService(options: FleetServiceOptions): FleetServiceServer {
  const door = new SessionDoor(options.limits);
  return { session: (call) => serveSession(call, door, options) };
}

function serveSession(call: Call, door: SessionDoor, options: FleetServiceOptions): void {
  const { scheduler, clock, limits, refusals, failures, connections } = options;
  const peer = call.getPeer();
  const address = hostOf(peer);
  const session = toSession(call, options);
  const budgets = new TokenBuckets(limits.messages, KINDS_MAX);
  let worker: string | undefined;

  let enter = (): void => {};
  try {
    enter = door.enter(address);
  } catch (thrown) {
    refusals.add("overloaded", { peer, because: FleetError.from(thrown).message });
    session.end(FleetError.from(thrown));
    return;
  }
  const silence = setTimeout(() => {
    session.end(new FleetError("USAGE", `no register message came in ${CALL_TIMEOUT_MS} ms`));
  }, CALL_TIMEOUT_MS);

  const join = (message: WorkerMessage): void => {
    door.knock(address, clock.monotonicMs());
    const told = { joinToken: options.joinToken, nowUnixMs: clock.unixMs() };
    const { facts, running, epochSeen } = parseRegister(message, told);
    const { experimentId } = facts.dedication ?? {};
    // A mistyped id would have it wait for ever.
    if (experimentId !== undefined) scheduler.experiment(experimentId);
    const known = scheduler.member(facts.id);
    if (known === undefined || known.status === "lost") door.join(livingMembers(scheduler));
    connections.trust(peer);
    options.leadership.meet(epochSeen);
    clearTimeout(silence);
    enter();
    worker = facts.id;
    call.write(welcome(options));
    scheduler.dispatch({
      type: "worker-joined",
      facts,
      session,
      ...(running ? { running } : {}),
    });
  };

  /** What a flood leaves over is dropped; the session goes on, as its gang depends on it. */
  const isTooMuch = (kind: string): boolean => {
    if (budgets.take(kind, clock.monotonicMs())) return false;
    refusals.add("too-many", { worker, peer, kind });
    call.pause();
    setTimeout(() => call.resume(), FLOOD_PAUSE_MS);
    return true;
  };

  call.on("data", (message: WorkerMessage) => {
    const kind = message.message?.$case ?? "unknown";
    try {
      if (worker === undefined) return join(message);
      if (isTooMuch(kind)) return;
      if (message.message?.$case === "logLines") {
        const name = scheduler.member(worker)?.facts.name ?? "";
        return keepLogLines(message.message.value, name, options);
      }
      const says = parseWorkerMessage(message);
      const stray = strayReason(says, scheduler.member(worker));
      if (stray) refusals.add(stray, { worker, peer, kind });
      else if (says.type === "failure") failures.add(says.code);
      scheduler.dispatch({ type: "worker-said", id: worker, session, message: says });
    } catch (thrown) {
      if (!(thrown instanceof FleetError)) throw thrown;
      const { code, message: because } = thrown;
      const reason = reasonFor({ kind, isMember: worker !== undefined, error: thrown });
      refusals.add(reason, { worker, peer, kind, code, because });
      // One bad message of a member is left out; ending its session would hurt its whole gang.
      if (worker === undefined) session.end(thrown);
    }
  });

  const leave = (): void => {
    clearTimeout(silence);
    enter();
    if (worker !== undefined)
      scheduler.dispatch({ type: "worker-disconnected", id: worker, session });
    worker = undefined;
  };
  call.on("end", () => {
    leave();
    call.end();
  });
  call.on("cancelled", leave);
  call.on("error", leave);
}

function livingMembers(scheduler: Scheduler): number {
  return scheduler.members().filter(({ status }) => status !== "lost").length;
}

function reasonFor(message: {
  readonly kind: string;
  readonly isMember: boolean;
  readonly error: FleetError;
}): RefusalReason {
  const { kind, isMember, error } = message;
  if (error.code === "USAGE" && kind === "unknown") return "unknown";
  if (isMember && kind === "register") return "registered-twice";
  if (error.code === "USAGE" && !isMember && kind !== "register") return "before-register";
  if (error.code === "NOT_FOUND") return "unknown-experiment";
  return refusalReason(error.code);
}

function toSession(call: Call, { limits, refusals, connections }: FleetServiceOptions): Session {
  let isEnding = false;
  const end = (error: FleetError): void => {
    isEnding = true;
    call.emit("error", toServiceError(error));
  };
  /** Memory must not fill up with what a worker does not read. */
  const giveUp = (): void => {
    const peer = call.getPeer();
    const message = `it has not read ${limits.unread} messages`;
    refusals.add("slow-reader", { peer, because: message });
    const cut = setTimeout(() => connections.cut(peer), CUT_MS);
    call.once("cancelled", () => clearTimeout(cut));
    end(new FleetError("OVERLOADED", `the session ended: ${message}`));
  };
  return {
    send: (says) => {
      if (isEnding) return;
      if (call.writableLength < limits.unread) {
        call.write(toCoordinatorMessage(says, FORMATION_TIMEOUT_MS));
        return;
      }
      isEnding = true;
      // The scheduler, which is told of the end, is in the middle of an event.
      setImmediate(giveUp);
    },
    end,
  };
}

function welcome({ leaseMs, leadership }: FleetServiceOptions): CoordinatorMessage {
  const value = {
    softwareVersion: SOFTWARE_VERSION,
    heartbeatIntervalMs: HEARTBEAT_INTERVAL_MS,
    leaseMs,
    epoch: leadership.epoch,
  };
  return { message: { $case: "welcome", value } };
}
