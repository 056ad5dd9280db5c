/**
 * This worker's membership of the fleet: one bidirectional call to the coordinator, kept alive with
 * heartbeats and opened again with backoff when it breaks. Training does not stop for that. Where
 * there are several coordinators, one of them leads: they are asked in turn, and one that an
 * earlier welcome shows to be replaced counts as away.
 *
 * What a call that breaks has delivered is not known. So how an assignment ended is said in every
 * call until the next one begins, and until then the worker registers as its holder.
 *
 *   connecting --welcome--> joined --call ends--> reconnecting --welcome--> joined
 *        |                                             |
 *        +---- connect timeout / refused -> lost <-----+ reconnect timeout / refused
 */

import assert from "node:assert/strict";
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
  /** HOST:PORT of every coordinator. */
  readonly coordinators: readonly string[];
  readonly transport: Transport;
  readonly register: Omit<Register, "running" | "epochSeen" | "memberForMs">;
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
const RETRY_MAX_MS = 2_000;
/** A coordinator that was stopped accepts connections, and never says a word. */
const WELCOME_TIMEOUT_MS = 5_000;
/** Reports that may have to be said again; progress reports are not kept. */
const UNCONFIRMED_MAX = 100;
const KEEPALIVE_MS = 2_000;
const KEEPALIVE_TIMEOUT_MS = 1_000;

type Call = ReturnType<FleetServiceClient["session"]>;

export class FleetSession {
  readonly #options: FleetSessionOptions;
  readonly #clients: readonly FleetServiceClient[];
  /** Why each coordinator could not be had when it was last asked. */
  readonly #problems: (FleetError | undefined)[] = [];
  /** What was last said in the log of each. */
  readonly #said: string[] = [];
  #unconfirmed: readonly WorkerReport[] = [];
  /** Index of the coordinator that is asked, or was joined. */
  #at = 0;
  /** How many were asked since the last welcome. */
  #asked = 0;
  #epochSeen = 0;
  #call: Call | undefined;
  #isJoined = false;
  /** When it was welcomed first; undefined before that. */
  #memberSinceMs: number | undefined;
  #isClosed = false;
  #awaySinceMs = performance.now();
  #retryMs = RETRY_FIRST_MS;
  #heartbeat: NodeJS.Timeout | undefined;
  #retry: NodeJS.Timeout | undefined;
  #welcomeDeadline: NodeJS.Timeout | undefined;
  #lastError = new FleetError("COORDINATOR_UNREACHABLE", "not connected yet");

  constructor(options: FleetSessionOptions) {
    this.#options = options;
    const { clientCredentials, clientOptions } = options.transport;
    const channelOptions = {
      ...clientOptions,
      "grpc.keepalive_time_ms": KEEPALIVE_MS,
      "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MS,
      "grpc.keepalive_permit_without_calls": 1,
      "grpc.initial_reconnect_backoff_ms": RETRY_FIRST_MS,
      "grpc.max_reconnect_backoff_ms": RETRY_MAX_MS,
    };
    this.#clients = options.coordinators.map(
      (address) => new FleetServiceClient(address, clientCredentials, channelOptions),
    );
    this.#open();
  }

  /** Sends a report, now and, unless it is of the moment, again to whom the next call reaches. */
  send(report: WorkerReport): void {
    if (this.#isJoined) this.#call?.write({ message: report });
    if (report.$case === "progress" || report.$case === "heartbeat") return;
    this.#unconfirmed = [...this.#unconfirmed, report].slice(-UNCONFIRMED_MAX);
  }

  /**
   * Sends what may be lost, unless the coordinator is away or does not keep up.
   *
   * @returns whether it was sent
   */
  offer(report: WorkerReport): boolean {
    const call = this.#call;
    if (!this.#isJoined || !call || call.writableNeedDrain) return false;
    call.write({ message: report });
    return true;
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
    this.#closeClients();
  }

  get #coordinator(): string {
    return this.#options.coordinators[this.#at] ?? "";
  }

  #open(): void {
    const { transport, register, running, log } = this.#options;
    const coordinator = this.#coordinator;
    const call = this.#clients[this.#at]?.session(new Metadata());
    assert.ok(call, "a session has the address of a coordinator");
    this.#call = call;
    this.#asked++;
    this.#welcomeDeadline = setTimeout(() => call.cancel(), WELCOME_TIMEOUT_MS);
    call.on("data", (message: CoordinatorMessage) => this.#receive(call, message));
    call.on("error", (error: Error) => {
      if (call !== this.#call) return;
      this.#lastError = fromServiceError(error as ServiceError, coordinator, transport);
    });
    call.on("end", () => call.end());
    call.on("status", (status) => {
      log.debug({ event: "session ended", code: status.code, because: status.details });
      this.#leave(call);
    });
    const held = running() ?? this.#lastHeld();
    const nowMs = performance.now();
    const memberForMs = Math.round(nowMs - (this.#memberSinceMs ?? nowMs));
    call.write({
      message: {
        $case: "register",
        value: { ...register, epochSeen: this.#epochSeen, running: held, memberForMs },
      },
    });
  }

  #receive(call: Call, { message }: CoordinatorMessage): void {
    if (call !== this.#call || !message) return;
    switch (message.$case) {
      case "welcome":
        this.#join(call, message.value);
        return;
      case "assignment":
        // Whoever assigns knows how everything before has ended.
        this.#unconfirmed = this.#unconfirmed.filter(({ $case }) => $case === "draining");
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

  #join(call: Call, welcome: Welcome): void {
    const { epoch } = welcome;
    if (epoch < this.#epochSeen) {
      this.#lastError = new FleetError(
        "COORDINATOR_UNREACHABLE",
        `the coordinator at ${this.#coordinator} was replaced: its epoch is ${epoch}, and one of ` +
          `epoch ${this.#epochSeen} has welcomed this worker`,
      );
      this.#leave(call);
      call.cancel();
      return;
    }
    this.#epochSeen = epoch;
    clearTimeout(this.#welcomeDeadline);
    this.#isJoined = true;
    this.#lastError = this.#awayError();
    this.#memberSinceMs ??= performance.now();
    this.#retryMs = RETRY_FIRST_MS;
    this.#asked = 0;
    this.#problems.length = 0;
    this.#said.length = 0;
    this.#options.log.info({ event: "joined the fleet", coordinator: this.#coordinator, epoch });
    for (const report of this.#unconfirmed) call.write({ message: report });
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
    if (this.#isJoined) {
      this.#awaySinceMs = performance.now();
      if (!this.#isForPeople(this.#lastError)) this.#lastError = this.#awayError();
    }
    this.#problems[this.#at] = this.#lastError;
    this.#isJoined = false;
    this.#call = undefined;
    this.#stopTimers();
    this.#sayOnce(this.#lastError);
    const { connectTimeoutMs, reconnectTimeoutMs } = this.#options;
    const isNew = this.#memberSinceMs === undefined;
    const patienceMs = isNew ? connectTimeoutMs : reconnectTimeoutMs;
    if (this.#isHopeless() || performance.now() - this.#awaySinceMs >= patienceMs) {
      this.#isClosed = true;
      this.#closeClients();
      this.#options.onLost(this.#lastError);
      return;
    }
    this.#askNext();
  }

  /** Asks the next coordinator; after a round of all of them there is a pause. */
  #askNext(): void {
    const count = this.#clients.length;
    this.#at = (this.#at + 1) % count;
    const isRoundOver = this.#asked === 0 ? count === 1 : this.#asked % count === 0;
    this.#retry = setTimeout(() => this.#open(), isRoundOver ? this.#retryMs : 0);
    if (isRoundOver) this.#retryMs = Math.min(2 * this.#retryMs, RETRY_MAX_MS);
  }

  /** The generation that ended last, while it is not certain that a coordinator knows that. */
  #lastHeld(): Running | undefined {
    for (const { $case, value } of this.#unconfirmed.toReversed()) {
      if ($case !== "stopped" && $case !== "result") continue;
      const { experimentId, stage, generation } = value;
      return { experimentId, stage, generation, step: $case === "stopped" ? value.step : 0 };
    }
    return undefined;
  }

  #isHopeless(): boolean {
    return this.#clients.every((_, at) => this.#isForPeople(this.#problems[at]));
  }

  /**
   * What only a person can change will not change by asking again. But whose certificate was good
   * may meet a coordinator that is being stopped, or the one side of two that has its new one.
   */
  #isForPeople(error: FleetError | undefined): boolean {
    const isRenewed = error?.code === "TLS_REFUSED" && this.#memberSinceMs !== undefined;
    return error?.remedy === "user" && !isRenewed;
  }

  /** A new reason why the coordinator cannot be had; a repeated one is no news. */
  #sayOnce({ code, message }: FleetError): void {
    if (message === this.#said[this.#at]) return;
    this.#said[this.#at] = message;
    const coordinator = this.#coordinator;
    this.#options.log.warn({ event: "not in the fleet", coordinator, code, because: message });
  }

  #awayError(): FleetError {
    const message = `the coordinator at ${this.#coordinator} went away`;
    return new FleetError("COORDINATOR_UNREACHABLE", message);
  }

  #closeClients(): void {
    for (const client of this.#clients) client.close();
  }

  #stopTimers(): void {
    clearInterval(this.#heartbeat);
    clearTimeout(this.#retry);
    clearTimeout(this.#welcomeDeadline);
  }
}
