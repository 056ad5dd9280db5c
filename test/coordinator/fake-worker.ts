/** A worker that trains nothing: a real gRPC session, and every word of it said by the test. */

import assert from "node:assert/strict";
import { type ClientDuplexStream, credentials, type ServiceError } from "@grpc/grpc-js";
import type { FleetError } from "../../proto/errors.ts";
import {
  type Assignment,
  type CoordinatorMessage,
  FleetServiceClient,
  type Progress,
  type RankTimes,
  type Register,
  type Running,
  Stage,
  type WorkerMessage,
} from "../../proto/gen/coordinator.ts";
import { fromServiceError } from "../../proto/grpc-errors.ts";
import { CLIENT_OPTIONS } from "../../proto/limits.ts";
import { PROTOCOL_VERSION, SOFTWARE_VERSION } from "../../proto/version.ts";
import { until } from "../support/until.ts";

const HEARTBEAT_MS = 100;

type Message = NonNullable<CoordinatorMessage["message"]>;
type MessageOf<Case extends Message["$case"]> = Extract<Message, { $case: Case }>["value"];
type Said = NonNullable<WorkerMessage["message"]>;

/** Joins the fleet; gives the worker once it was welcomed. */
export async function joinFleet(
  address: string,
  workerId: string,
  register: Partial<Register> = {},
): Promise<FakeWorker> {
  const worker = new FakeWorker(address, workerId, register);
  await worker.receive("welcome");
  return worker;
}

/** How a worker introduces itself that holds nothing and knows no token. */
export function registerAs(workerId: string): Register {
  return {
    protocolVersion: PROTOCOL_VERSION,
    softwareVersion: SOFTWARE_VERSION,
    workerId,
    name: `${workerId}-name`,
    peerAddress: `127.0.0.1:${10_000 + Number(workerId.replaceAll(/\D/g, "") || 0)}`,
    engine: "fake",
    device: "none",
    threads: 1,
    joinToken: "",
    running: undefined,
    epochSeen: 0,
    memberForMs: 0,
  };
}

export class FakeWorker {
  readonly id: string;
  /** What the worker claims to hold in its heartbeats. */
  running: Running | undefined;
  /** How long its steps take, in its heartbeats. */
  times: RankTimes | undefined;
  readonly #client: FleetServiceClient;
  readonly #stream: ClientDuplexStream<WorkerMessage, CoordinatorMessage>;
  readonly #received: Message[] = [];
  readonly #ended: Promise<FleetError | undefined>;
  #heartbeat: NodeJS.Timeout | undefined;
  #hasEnded = false;

  constructor(address: string, workerId: string, register: Partial<Register> = {}) {
    this.id = workerId;
    this.running = register.running;
    this.#client = new FleetServiceClient(address, credentials.createInsecure(), {
      ...CLIENT_OPTIONS,
      "grpc.use_local_subchannel_pool": 1,
    });
    this.#stream = this.#client.session();
    this.#stream.on("data", ({ message }: CoordinatorMessage) => {
      if (message) this.#received.push(message);
    });
    this.#ended = new Promise((resolve) => {
      const end = (error?: FleetError): void => {
        this.#hasEnded = true;
        clearInterval(this.#heartbeat);
        resolve(error);
      };
      this.#stream.on("error", (error) => end(fromServiceError(error as ServiceError, address)));
      this.#stream.on("end", () => end());
    });
    this.say("register", { ...registerAs(workerId), ...register });
    this.#heartbeat = setInterval(() => this.beat(), HEARTBEAT_MS);
  }

  say<Case extends Said["$case"]>(
    $case: Case,
    value: Extract<Said, { $case: Case }>["value"],
  ): void {
    if (!this.#hasEnded) this.#stream.write({ message: { $case, value } as Said });
  }

  beat(): void {
    const { running, times } = this;
    this.say("heartbeat", { running, rssBytes: 1_000, ...(times ? { times } : {}) });
  }

  /** Takes the next message of this kind; what came before it is dropped. */
  async receive<Case extends Message["$case"]>($case: Case): Promise<MessageOf<Case>> {
    const index = await until(`${this.id} to get ${$case}`, () => {
      assert.ok(!this.#hasEnded || this.#received.length > 0, `${this.id}: the session ended`);
      return this.#received.findIndex((message) => message.$case === $case) + 1;
    });
    const [message] = this.#received.splice(0, index).slice(-1);
    return message?.value as MessageOf<Case>;
  }

  /** Whether a message of this kind has come and was not taken. */
  hasReceived($case: Message["$case"]): boolean {
    return this.#received.some((message) => message.$case === $case);
  }

  /** Takes an assignment and claims it from now on. */
  async accept(): Promise<Assignment> {
    const assignment = await this.receive("assignment");
    const { experimentId, stage, generation } = assignment;
    this.running = { experimentId, stage, generation, step: 0 };
    return assignment;
  }

  progress(step: number, more: Partial<Progress> = {}): void {
    const running = this.#held();
    this.running = { ...running, step };
    const { experimentId, stage, generation } = running;
    this.say("progress", {
      experimentId,
      stage,
      generation,
      step,
      stepsTotal: 100,
      epoch: step / 10,
      epochsTotal: 10,
      loss: 4.25,
      lr: 0.3,
      imagesPerSecond: 99,
      etaSeconds: 10,
      top1: undefined,
      top5: undefined,
      skippedImages: 0,
      checkpointStep: undefined,
      allReduceSeconds: undefined,
      allReduceHidden: undefined,
      lossBound: undefined,
      lossAtBound: undefined,
      knn: [],
      probeTop1: undefined,
      probeTop5: undefined,
      storageProblem: undefined,
      checkpointFailures: 0,
      trainingSeconds: undefined,
      ...more,
    });
  }

  finish(rank: number, resultJson = ""): void {
    const { experimentId, stage, generation } = this.#held();
    this.running = undefined;
    this.say("result", { experimentId, stage, generation, rank, resultJson });
  }

  fail(rank: number, code: string, message: string, unixMs = Date.now()): void {
    const { experimentId, stage, generation, step } = this.#held();
    this.say("failure", { experimentId, stage, generation, rank, code, message, unixMs, step });
  }

  leave(rank: number, because = "told to", lostRanks: readonly number[] = []): void {
    const { experimentId, stage, generation, step } = this.#held();
    this.running = undefined;
    this.say("stopped", {
      experimentId,
      stage,
      generation,
      rank,
      step,
      checkpointStep: undefined,
      lostRanks: [...lostRanks],
      because,
    });
  }

  /** Waits for the coordinator's abort and obeys. */
  async obey(rank: number): Promise<string> {
    const { because, generation } = await this.receive("abort");
    assert.equal(generation, this.#held().generation);
    this.leave(rank, because);
    return because;
  }

  /** Why the coordinator has ended the session; undefined when it was without an error. */
  async ended(): Promise<FleetError | undefined> {
    return await this.#ended;
  }

  /** Goes silent without closing the connection, as a stopped process does. */
  freeze(): void {
    clearInterval(this.#heartbeat);
  }

  /** Breaks the connection off. */
  close(): void {
    clearInterval(this.#heartbeat);
    this.#stream.cancel();
    this.#client.close();
  }

  #held(): Running {
    assert.ok(this.running, `${this.id} holds no assignment`);
    return this.running;
  }
}

export const STAGES = { pretrain: Stage.STAGE_PRETRAIN, linear: Stage.STAGE_LINEAR } as const;
