/**
 * A coordinator in the test's own process, on a real Redis, with workers that the test speaks for.
 */

import assert from "node:assert/strict";
import { OperatorClient } from "../../coordinator/cli/operator-client.ts";
import type { ControlLimits } from "../../coordinator/control/control-limits.ts";
import type { RefusalReason } from "../../coordinator/control/refusal-reasons.ts";
import {
  type Coordinator,
  type CoordinatorOptions,
  startCoordinator,
} from "../../coordinator/start-coordinator.ts";
import type { FleetError } from "../../proto/errors.ts";
import type { Experiment, Register } from "../../proto/gen/coordinator.ts";
import { openLog } from "../../proto/log.ts";
import { parseRecipe } from "../../proto/recipe.ts";
import { applyOverrides } from "../../proto/recipe-overrides.ts";
import { findRecipe } from "../../proto/recipes/registry.ts";
import { PLAINTEXT } from "../../proto/transport.ts";
import { startRedis, type TestRedis } from "../support/processes.ts";
import { until } from "../support/until.ts";
import { FakeWorker, joinFleet } from "./fake-worker.ts";

/** Short, so that a test of a lost worker does not take long; ten heartbeats fit. */
const LEASE_MS = 1_000;

let prefixes = 0;

export interface RigOptions {
  readonly joinToken?: string;
  /** Of another rig, to share what lies in Redis; an own one otherwise. */
  readonly prefix?: string;
  readonly leaderTtlMs?: number;
  /** Another way to the same Redis. */
  readonly redisUrl?: string;
  /** In place of the coordinator's own. */
  readonly limits?: Partial<ControlLimits>;
  /** Whatever else it is started with. */
  readonly coordinator?: Partial<CoordinatorOptions>;
}

export class CoordinatorRig {
  coordinator!: Coordinator;
  operator!: OperatorClient;
  readonly prefix: string;
  readonly #redis: TestRedis;
  readonly #options: RigOptions;
  readonly #workers: FakeWorker[] = [];

  private constructor(redis: TestRedis, options: RigOptions) {
    this.#redis = redis;
    this.#options = options;
    this.prefix = options.prefix ?? `rig${prefixes++}`;
  }

  static async open(redis: TestRedis, options: RigOptions = {}): Promise<CoordinatorRig> {
    const rig = new CoordinatorRig(redis, options);
    await rig.start();
    return rig;
  }

  get address(): string {
    return `127.0.0.1:${this.coordinator.grpcPort}`;
  }

  async start(grpcPort = 0, more: Partial<CoordinatorOptions> = {}): Promise<void> {
    const { redisUrl = this.#redis.url, joinToken = "" } = this.#options;
    const { leaderTtlMs, limits } = this.#options;
    this.coordinator = await startCoordinator({
      host: "127.0.0.1",
      grpcPort,
      httpPort: 0,
      stateDir: "unused",
      redisUrl,
      redisPrefix: this.prefix,
      joinToken,
      ...(leaderTtlMs === undefined ? {} : { leaderTtlMs }),
      transport: PLAINTEXT,
      log: openLog({ level: "silent", process: "test" }),
      leaseMs: LEASE_MS,
      ...(limits === undefined ? {} : { limits }),
      ...this.#options.coordinator,
      ...more,
    });
    this.operator = new OperatorClient(this.address, PLAINTEXT, joinToken);
  }

  /** Ends the coordinator as SIGTERM does, and starts the next one on the same Redis. */
  async restart(): Promise<void> {
    const { grpcPort } = this.coordinator;
    this.operator.close();
    await this.coordinator.close({ dismiss: false });
    await this.start(grpcPort);
  }

  /** Starts it anew with other options. */
  async reopen(options: Partial<CoordinatorOptions>): Promise<void> {
    this.operator.close();
    await this.coordinator.close({ dismiss: false });
    await this.start(0, options);
  }

  /** Waits until it leads. */
  async untilLeading(): Promise<void> {
    await until("it to lead", () => this.coordinator.role.status === "leading");
  }

  async join(id: string, register: Partial<Register> = {}): Promise<FakeWorker> {
    const worker = await joinFleet(this.address, id, {
      joinToken: this.#options.joinToken ?? "",
      ...register,
    });
    this.#workers.push(worker);
    return worker;
  }

  /** Why a worker that tries to join is refused. */
  async refusal(id: string, register: Partial<Register> = {}): Promise<FleetError | undefined> {
    const worker = new FakeWorker(this.address, id, register);
    this.#workers.push(worker);
    return await worker.ended();
  }

  /** The same number of workers as ids. */
  async joinAll(...ids: readonly string[]): Promise<FakeWorker[]> {
    return await Promise.all(ids.map((id) => this.join(id)));
  }

  /** What the coordinator has refused so far for a reason, by its own metrics. */
  async refused(reason: RefusalReason): Promise<number> {
    const url = `http://127.0.0.1:${this.coordinator.httpPort}/metrics`;
    const metrics = await (await fetch(url)).text();
    const name = `simclr_refused_messages_total{reason="${reason}"} `;
    const line = metrics.split("\n").find((one) => one.startsWith(name));
    assert.ok(line, `${name} is a metric`);
    return Number(line.slice(name.length));
  }

  /**
   * Submits `demo` with `pretrain` and `linear` workers; `elastic` is their least number, and for
   * how many seconds more are waited for.
   */
  async submit(
    workers: { readonly pretrain: number; readonly linear: number },
    options: {
      readonly priority?: number;
      readonly name?: string;
      readonly elastic?: readonly [number, number];
    } = {},
  ): Promise<string> {
    const settings = Object.entries(workers).map(([stage, count]) => `${stage}.workers=${count}`);
    if (options.elastic) {
      const [minWorkers, waitSeconds] = options.elastic;
      settings.push(`elastic={minWorkers: ${minWorkers}, waitSeconds: ${waitSeconds}}`);
    }
    const recipe = parseRecipe(applyOverrides(findRecipe("demo"), settings));
    const { priority = 0, name = "" } = options;
    return await this.operator.submit({ recipeJson: JSON.stringify(recipe), priority, name });
  }

  /** Waits until the experiment is as wanted. */
  async untilExperiment(
    id: string,
    what: string,
    isWanted: (experiment: Experiment) => boolean,
  ): Promise<Experiment> {
    let last: Experiment | undefined;
    try {
      return await until(`${id} ${what}`, async () => {
        last = await this.operator.get(id);
        return isWanted(last) ? last : undefined;
      });
    } catch (cause) {
      throw new Error(`${id} is ${last?.state} (${last?.reason}), not ${what}`, { cause });
    }
  }

  async untilState(id: string, state: string): Promise<Experiment> {
    const wanted = `EXPERIMENT_STATE_${state.toUpperCase()}`;
    return await this.untilExperiment(id, state, (experiment) => experiment.state === wanted);
  }

  async close(): Promise<void> {
    for (const worker of this.#workers) worker.close();
    this.operator.close();
    await this.coordinator.close({ dismiss: false });
  }
}

/** A suite's Redis. */
export function useRedis(): () => TestRedis {
  let redis: TestRedis;
  before(async () => {
    redis = await startRedis();
  });
  after(() => redis.close());
  return () => redis;
}

/** A suite's Redis, and a fresh coordinator for each of its tests. */
export function useRig(options: RigOptions = {}): () => CoordinatorRig {
  const redis = useRedis();
  let rig: CoordinatorRig;
  beforeEach(async () => {
    rig = await CoordinatorRig.open(redis(), options);
  });
  afterEach(() => rig.close());
  return () => rig;
}
