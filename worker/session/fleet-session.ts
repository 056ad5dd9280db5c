/**
 * This worker's membership of the fleet: one bidirectional call to the coordinator, kept alive with
 * heartbeats and opened again with backoff when it breaks. Training does not stop for that.
 *
 *   connecting --welcome--> joined --call ends--> reconnecting --welcome--> joined
 *        |                                             |
 *        +---- connect timeout / refused -> lost <-----+ reconnect timeout / refused
 */

import { Metadata, type ServiceError } from "@grpc/grpc-js";
import { FleetError } from "../../proto/errors.ts";
import {
  type Abort,
  type Assignment,
  type CoordinatorMessage,
  FleetServiceClient,
  type RankTimes,
  type Register,
  type Running,
  type Welcome,
  type WorkerMessage,
} from "../../proto/gen/coordinator.ts";
import { fromServiceError } from "../../proto/grpc-errors.ts";
import type { Log } from "../../proto/log.ts";
import type { Transport } from "../../proto/transport.ts";

export interface FleetSessionOptions {
  /** HOST:PORT of the coordinator. */
  readonly coordinator: string;
  readonly transport: Transport;
  readonly register: Omit<Register, "running">;
  /** How long the first connection may take. */
  readonly connectTimeoutMs: number;
  /** How long a lost coordinator may stay away. */
  readonly reconnectTimeoutMs: number;
  readonly running: () => Running | undefined;
  /** Where its time goes; nothing until a step of the present assignment is finished. */
  readonly times: () => RankTimes | undefined;
  readonly onAssignment: (assignment: Assignment) => void;
  readonly onAbort: (abort: Abort) => void;
  readonly onDismiss: (because: string) => void;
  /** The membership has ended for good. */
  readonly onLost: (error: FleetError) => void;
  readonly log: Log;
}

export type WorkerReport = NonNullable<WorkerMessage["message"]>;

const RETRY_FIRST_MS = 100;
const RETRY_MAX_MS = 5_000;
/** Reports held back while the coordinator is away; progress reports are not kept. */
const BACKLOG_MAX = 100;
const KEEPALIVE_MS = 2_000;
const KEEPALIVE_TIMEOUT_MS = 1_000;

type Call = ReturnType<FleetServiceClient["session"]>;

export class FleetSession {
  readonly #options: FleetSessionOptions;
  readonly #client: FleetServiceClient;
  readonly #backlog: WorkerReport[] = [];
  #call: Call | undefined;
  #isJoined = false;
  #hasJoinedBefore = false;
  #isClosed = false;
  #awaySinceMs = performance.now();
  #retryMs = RETRY_FIRST_MS;
  #heartbeat: NodeJS.Timeout | undefined;
  #retry: NodeJS.Timeout | undefined;
  #lastError = new FleetError("COORDINATOR_UNREACHABLE", "not connected yet");
  #lastSaid = "";

  constructor(options: FleetSessionOptions) {
    this.#options = options;
    const { clientCredentials, clientOptions } = options.transport;
    this.#client = new FleetServiceClient(options.coordinator, clientCredentials, {
      ...clientOptions,
      "grpc.keepalive_time_ms": KEEPALIVE_MS,
      "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MS,
      "grpc.keepalive_permit_without_calls": 1,
      "grpc.initial_reconnect_backoff_ms": RETRY_FIRST_MS,
      "grpc.max_reconnect_backoff_ms": RETRY_MAX_MS,
    });
    this.#open();
  }

  /** Sends a report now, or keeps it until the coordinator is back. */
  send(report: WorkerReport): void {
    if (this.#isJoined && this.#call) {
      this.#call.write({ message: report });
      return;
    }
    if (report.$case === "progress" || this.#backlog.length >= BACKLOG_MAX) return;
    this.#backlog.push(report);
  }

  /** Leaves the fleet: everything sent so far is delivered first. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#stopTimers();
    const call = this.#call;
    if (call && this.#isJoined) {
      // A coordinator that does not answer must not keep the worker from leaving.
      await new Promise<void>((resolve) => {
        const giveUp = setTimeout(resolve, 2_000);
        call.once("status", () => {
          clearTimeout(giveUp);
          resolve();
        });
        call.end();
      });
    }
    call?.cancel();
    this.#client.close();
  }

  #open(): void {
    const { coordinator, transport, register, running, log } = this.#options;
    const call = this.#client.session(new Metadata());
    this.#call = call;
    call.on("data", (message: CoordinatorMessage) => this.#receive(call, message));
    call.on("error", (error: Error) => {
      this.#lastError = fromServiceError(error as ServiceError, coordinator, transport);
    });
    call.on("end", () => call.end());
    call.on("status", (status) => {
      log.debug({ code: status.code, details: status.details }, "session ended");
      this.#leave(call);
    });
    const present = running();
    call.write({
      message: {
        $case: "register",
        value: { ...register, running: present },
      },
    });
  }

  #receive(call: Call, { message }: CoordinatorMessage): void {
    if (call !== this.#call || !message) return;
    switch (message.$case) {
      case "welcome":
        this.#join(message.value);
        return;
      case "assignment":
        this.#options.onAssignment(message.value);
        return;
      case "abort":
        this.#options.onAbort(message.value);
        return;
      case "dismiss":
        this.#options.onDismiss(message.value.because);
        return;
    }
  }

  #join(welcome: Welcome): void {
    this.#isJoined = true;
    this.#lastError = this.#awayError();
    this.#hasJoinedBefore = true;
    this.#retryMs = RETRY_FIRST_MS;
    this.#lastSaid = "";
    this.#options.log.info({ coordinator: this.#options.coordinator }, "joined the fleet");
    for (const report of this.#backlog.splice(0)) this.send(report);
    this.#beat();
    this.#heartbeat = setInterval(() => this.#beat(), welcome.heartbeatIntervalMs);
  }

  #beat(): void {
    const { running, times } = this.#options;
    this.send({
      $case: "heartbeat",
      value: { running: running(), rssBytes: process.memoryUsage.rss(), times: times() },
    });
  }

  #leave(call: Call): void {
    if (call !== this.#call || this.#isClosed) return;
    const isHopeless = this.#isHopeless();
    if (this.#isJoined) {
      this.#awaySinceMs = performance.now();
      if (!isHopeless) this.#lastError = this.#awayError();
    }
    this.#isJoined = false;
    this.#call = undefined;
    this.#stopTimers();
    this.#sayOnce(this.#lastError);
    const { connectTimeoutMs, reconnectTimeoutMs } = this.#options;
    const patienceMs = this.#hasJoinedBefore ? reconnectTimeoutMs : connectTimeoutMs;
    if (isHopeless || performance.now() - this.#awaySinceMs >= patienceMs) {
      this.#isClosed = true;
      this.#client.close();
      this.#options.onLost(this.#lastError);
      return;
    }
    this.#retry = setTimeout(() => this.#open(), this.#retryMs);
    this.#retryMs = Math.min(2 * this.#retryMs, RETRY_MAX_MS);
  }

  /**
   * What only a person can change will not change by asking again. But whose certificate was good
   * may meet a coordinator that is being stopped, or the one side of two that has its new one.
   */
  #isHopeless(): boolean {
    const { code, remedy } = this.#lastError;
    return remedy === "user" && !(code === "TLS_REFUSED" && this.#hasJoinedBefore);
  }

  /** A new reason why the coordinator cannot be had; a repeated one is no news. */
  #sayOnce({ code, message }: FleetError): void {
    if (message === this.#lastSaid) return;
    this.#lastSaid = message;
    const { coordinator, log } = this.#options;
    log.warn({ coordinator, code, because: message }, "not in the fleet");
  }

  #awayError(): FleetError {
    const { coordinator } = this.#options;
    return new FleetError("COORDINATOR_UNREACHABLE", `the coordinator at ${coordinator} went away`);
  }

  #stopTimers(): void {
    clearInterval(this.#heartbeat);
    clearTimeout(this.#retry);
  }
}
