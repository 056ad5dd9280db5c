/** FleetService: one bidirectional call per worker, turned into the scheduler's events and back. */

import type { ServerDuplexStream } from "@grpc/grpc-js";
import { FleetError } from "../../proto/errors.ts";
import type {
  CoordinatorMessage,
  FleetServiceServer,
  WorkerMessage,
} from "../../proto/gen/coordinator.ts";
import { toServiceError } from "../../proto/grpc-errors.ts";
import {
  CALL_TIMEOUT_MS,
  FORMATION_TIMEOUT_MS,
  HEARTBEAT_INTERVAL_MS,
} from "../../proto/limits.ts";
import type { Log } from "../../proto/log.ts";
import { SOFTWARE_VERSION } from "../../proto/version.ts";
import type { Scheduler } from "../scheduler.ts";
import type { Session } from "../scheduler-events.ts";
import type { Leadership } from "../store/leadership.ts";
import { parseRegister, parseWorkerMessage, toCoordinatorMessage } from "./worker-message.ts";

export interface FleetServiceOptions {
  readonly scheduler: Scheduler;
  readonly log: Log;
  /** Empty when anybody may join. */
  readonly joinToken: string;
  readonly leaseMs: number;
  readonly leadership: Pick<Leadership, "epoch" | "meet">;
}

type Call = ServerDuplexStream<WorkerMessage, CoordinatorMessage>;

export function fleetService(options: FleetServiceOptions): FleetServiceServer {
  return { session: (call) => serveSession(call, options) };
}

function serveSession(call: Call, options: FleetServiceOptions): void {
  const { scheduler, log } = options;
  const session = toSession(call);
  let worker: string | undefined;

  const silence = setTimeout(() => {
    session.end(new FleetError("USAGE", `no register message came in ${CALL_TIMEOUT_MS} ms`));
  }, CALL_TIMEOUT_MS);

  const join = (message: WorkerMessage): void => {
    const { facts, running, epochSeen } = parseRegister(message, options.joinToken);
    options.leadership.meet(epochSeen);
    clearTimeout(silence);
    worker = facts.id;
    call.write(welcome(options));
    scheduler.dispatch({
      type: "worker-joined",
      facts,
      session,
      ...(running ? { running } : {}),
    });
  };

  call.on("data", (message: WorkerMessage) => {
    try {
      if (worker === undefined) return join(message);
      const says = parseWorkerMessage(message);
      scheduler.dispatch({ type: "worker-said", id: worker, session, message: says });
    } catch (thrown) {
      if (!(thrown instanceof FleetError)) throw thrown;
      const { code, message: because } = thrown;
      const kind = message.message?.$case;
      log.warn({
        event: "worker message refused",
        worker,
        peer: call.getPeer(),
        kind,
        code,
        because,
      });
      // One bad message of a member is left out; ending its session would hurt its whole gang.
      if (worker === undefined) session.end(thrown);
    }
  });

  const leave = (): void => {
    clearTimeout(silence);
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

function toSession(call: Call): Session {
  return {
    send: (says) => {
      call.write(toCoordinatorMessage(says, FORMATION_TIMEOUT_MS));
    },
    end: (error) => {
      call.emit("error", toServiceError(error));
    },
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
