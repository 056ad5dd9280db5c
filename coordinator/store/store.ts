/**
 * What survives the coordinator: experiments, their recipes, their jobs in the queue, and the
 * counter that generations are drawn from. All of it lies in Redis under one prefix:
 *
 *   PREFIX:epoch, :leader, :standbys   which coordinator leads; see leadership.ts
 *   PREFIX:generation          the fencing counter of gangs, which only rises
 *   PREFIX:experiments         sorted set of ids by the time of submission
 *   PREFIX:experiment:ID       record of the state machine, JSON
 *   PREFIX:timeline:ID         what has happened to it, JSON; apart, since it changes seldom
 *   PREFIX:curves:ID           the course of its figures, JSON; apart, and written seldom
 *   PREFIX:recipe:ID           resolved recipe, JSON
 *   PREFIX:log:ID              lines of its logs; see log-store.ts
 *   PREFIX:queue:*             BullMQ
 *
 * Records are written behind: the scheduler never waits for Redis, and while Redis is away only the
 * newest record of each experiment is kept for it. A coordinator that dies with a record unwritten
 * does no harm, since a generation that the record does not know is fenced off when it shows up.
 *
 * Every write goes through the fence of leadership.ts; only BullMQ's own scripts do not, before
 * which it is asked. A Redis that comes back after a crash may have lost the last second: then
 * everything is written once more.
 */

import type { BaseAdapter } from "@bull-board/api/baseAdapter";
import { FleetError } from "../../proto/errors.ts";
import type { Log } from "../../proto/log.ts";
import type { StageName } from "../../proto/recipe.ts";
import { within } from "../../proto/within.ts";
import { type Experiment, isFinished, presentStage } from "../experiment/experiment.ts";
import { CurveWriter } from "./curve-writer.ts";
import { readRecord, writeCurves, writeRecord } from "./experiment-record.ts";
import { Leadership } from "./leadership.ts";
import {
  ADD_EXPERIMENT,
  CONFIRM,
  DRAW_GENERATIONS,
  FORGET_EXPERIMENT,
  SAVE_EXPERIMENT,
} from "./leadership-scripts.ts";
import { LogStore } from "./log-store.ts";
import { connectRedis, type RedisConnections, reachRedis, runIdOf } from "./redis-connection.ts";
import { type RedisFacts, redisFactsOf } from "./redis-facts.ts";
import { type Judge, type QueueDepth, StageQueue } from "./stage-queue.ts";

const RETRY_MS = 500;
const FLUSH_TIMEOUT_MS = 5_000;

export interface StoredExperiment {
  readonly experiment: Experiment;
  /** The resolved recipe, JSON. */
  readonly recipeJson: string;
}

export interface StoreOptions {
  readonly redisUrl: string;
  readonly log: Log;
  /** Keeps several coordinators apart on one Redis. */
  readonly prefix: string;
  /** How long a leader may be silent. */
  readonly leaderTtlMs?: number | undefined;
}

/**
 * Opens the store to read; to write, its `leadership` has to be won first.
 *
 * @throws {FleetError} REDIS_UNREACHABLE within 5 s
 */
export async function openStore(options: StoreOptions): Promise<Store> {
  const { redisUrl, log, prefix, leaderTtlMs: ttlMs } = options;
  const connections = await connectRedis(redisUrl, log);
  const leadership = new Leadership({ redis: connections.commands, prefix, log, ttlMs });
  return new Store(connections, leadership, options);
}

export class Store {
  /** Of Redis, for people: without its secrets. */
  readonly address: string;
  readonly leadership: Leadership;
  readonly logs: LogStore;
  /** What Redis says of itself; undefined while it does not answer. */
  readonly redisFacts: () => Promise<RedisFacts | undefined>;
  readonly #connections: RedisConnections;
  readonly #prefix: string;
  readonly #log: Log;
  readonly #queue: StageQueue;
  readonly #unwritten = new Map<string, Experiment>();
  /** As they are in Redis. */
  readonly #timelines = new Map<string, Experiment["timeline"]>();
  readonly #curves: CurveWriter;
  #writing: Promise<void> | undefined;
  #chores: Promise<void> = Promise.resolve();
  #isClosed = false;

  constructor(
    connections: RedisConnections,
    leadership: Leadership,
    { prefix, log }: Pick<StoreOptions, "prefix" | "log">,
  ) {
    this.address = connections.address;
    this.leadership = leadership;
    this.redisFacts = redisFactsOf(connections.commands);
    this.#connections = connections;
    this.#prefix = prefix;
    this.#log = log;
    const { address } = connections;
    this.logs = new LogStore({ redis: connections.commands, leadership, prefix, address });
    const isConfirmed = () => leadership.isConfirmed();
    this.#queue = new StageQueue({ connections, prefix, log, isConfirmed });
    this.#curves = new CurveWriter(async (id, curves) => {
      const keys = [this.#key(`curves:${id}`)];
      await leadership.run(SAVE_EXPERIMENT, keys, [writeCurves(curves)]);
    });
  }

  /** Every experiment, in the order of submission. */
  async load(): Promise<readonly StoredExperiment[]> {
    const redis = this.#connections.commands;
    const ids = await redis.zrange(this.#key("experiments"), 0, "-1");
    const stored: StoredExperiment[] = [];
    for (const id of ids) {
      const keys = this.#keysOf(id);
      const [recipeJson, record, timeline = null, curves = null] = await redis.mget([...keys]);
      const experiment = record ? readRecord({ record, timeline, curves }) : undefined;
      if (experiment && recipeJson) {
        stored.push({ experiment, recipeJson });
        this.#curves.isWritten(id, experiment.curves);
      } else this.#log.error({ event: "experiment record is unreadable", experiment: id });
    }
    return stored;
  }

  /**
   * Starts the queue. Of the experiments that an earlier coordinator left, `judge` is asked at
   * once; their jobs that are missing, because a crash came between two writes, are queued again.
   *
   * @param experiments gives all of them as they are now: they are written again to a Redis that
   *   was started anew
   */
  async start(judge: Judge, experiments: () => readonly StoredExperiment[]): Promise<void> {
    for (const { experiment } of experiments()) await this.#reconcile(experiment, judge);
    this.#queue.start(judge);

    let runId = await runIdOf(this.#connections.commands);
    this.#connections.commands.on("ready", () => {
      this.#chore("look after Redis", async () => {
        const present = await runIdOf(this.#connections.commands);
        if (present === runId) return;
        this.#log.warn({ event: "redis was started anew: everything is written again" });
        for (const { experiment, recipeJson } of experiments()) {
          await this.add(experiment, recipeJson);
          await this.#reconcile(experiment, judge);
        }
        runId = present;
      });
    });
  }

  /**
   * Adds a new experiment; durable when it resolves. Its stages are queued with {@link requeue},
   * once the judge knows of it.
   *
   * @throws {FleetError} REDIS_UNREACHABLE or LEADERSHIP_LOST, and then nothing was added
   */
  async add(experiment: Experiment, recipeJson: string): Promise<void> {
    const { id, submittedUnixMs } = experiment;
    const timeline = JSON.stringify(experiment.timeline);
    const texts = [recipeJson, writeRecord(experiment), timeline, writeCurves(experiment.curves)];
    const fields = [id, submittedUnixMs, ...texts];
    const keys = [this.#key("experiments"), ...this.#keysOf(id)];
    await this.#reach(() => this.leadership.run(ADD_EXPERIMENT, keys, fields));
  }

  /** Takes the newest record of an experiment; writes it soon. */
  save(experiment: Experiment): void {
    this.#unwritten.set(experiment.id, experiment);
    this.#curves.offer(experiment.id, experiment.curves);
    this.#writing ??= this.#write().finally(() => {
      this.#writing = undefined;
    });
  }

  /**
   * Resolves when everything that was asked for so far is in Redis.
   *
   * @throws {FleetError} REDIS_UNREACHABLE when that takes longer than `deadlineMs`;
   *   LEADERSHIP_LOST when it was dropped, because another coordinator decides now
   */
  async flush(deadlineMs = FLUSH_TIMEOUT_MS): Promise<void> {
    const written = await within(Promise.all([this.#writing, this.#chores]), deadlineMs);
    if (!written) {
      const message = `Redis at ${this.address} did not take the change in ${deadlineMs} ms`;
      throw new FleetError("REDIS_UNREACHABLE", message);
    }
    this.leadership.assertLeading();
  }

  /**
   * Draws `count` numbers that no gang ever had, rising, all above `above`: a Redis that has lost
   * its last writes may have forgotten some.
   *
   * @throws {FleetError} REDIS_UNREACHABLE, LEADERSHIP_LOST
   */
  async drawGenerations(count: number, above: number): Promise<readonly number[]> {
    const keys = [this.#key("generation")];
    const last = Number(
      await this.#reach(() => this.leadership.run(DRAW_GENERATIONS, keys, [count, above])),
    );
    return Array.from({ length: count }, (_, index) => last - count + 1 + index);
  }

  /** Queues the experiment's present stage and those after it, in place of what is queued of it. */
  requeue(experiment: Experiment): void {
    this.#chore("requeue", () => this.#enqueue(experiment));
  }

  /** Lets the queue know that a stage has come to its end, whichever that was. */
  stageEnded(experiment: Experiment, stage: StageName): void {
    const { id, phase } = experiment;
    this.#chore("stage ended", () =>
      phase.status === "cancelled"
        ? this.#queue.remove(id, stageNames(experiment))
        : this.#queue.wake(id, stage),
    );
  }

  /** Removes everything about an experiment. */
  forget(experiment: Experiment): void {
    const { id } = experiment;
    this.#unwritten.delete(id);
    this.#timelines.delete(id);
    this.#curves.forget(id);
    this.#chore("forget", async () => {
      await this.#queue.remove(id, stageNames(experiment));
      this.logs.forget(id);
      const keys = [this.#key("experiments"), ...this.#keysOf(id), this.logs.keyOf(id)];
      await this.leadership.run(FORGET_EXPERIMENT, keys, [id]);
    });
  }

  async queueDepth(): Promise<QueueDepth> {
    return await this.#queue.depth();
  }

  /** How often the connection to Redis had to be opened again. */
  get redisReconnects(): number {
    return this.#connections.reconnects();
  }

  /** The stages' queue, for Bull Board to show. */
  queueForBoard(): BaseAdapter {
    return this.#queue.forBoard();
  }

  /** Whether Redis answers now. */
  async isReachable(): Promise<boolean> {
    return await this.#connections.commands.ping().then(
      () => true,
      () => false,
    );
  }

  /** Writes what is left, gives the lead up, and closes the connections. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#curves.close();
    if (this.leadership.isLeading) {
      await this.logs.settled();
      await this.#curves.flush();
      await this.flush().catch((error) => {
        this.#log.error({ event: "not everything was written", because: error.message });
      });
    }
    await this.#queue.close();
    await this.leadership.resign();
    this.#connections.close();
  }

  async #write(): Promise<void> {
    while (this.#unwritten.size > 0) {
      const [next] = this.#unwritten.values();
      if (!next) return;
      this.#unwritten.delete(next.id);
      try {
        await this.#writeOne(next);
      } catch (error) {
        // What the successor makes of the experiment counts.
        if (!this.leadership.isLeading) return this.#unwritten.clear();
        // Unless a newer one has come meanwhile, it has to be tried again.
        if (!this.#unwritten.has(next.id)) this.#unwritten.set(next.id, next);
        if (this.#isClosed) {
          const because = FleetError.from(error).message;
          this.#log.error({ event: "experiment not written", experiment: next.id, because });
          return;
        }
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }

  /** Progress is written twice a second, a timeline only when something has happened. */
  async #writeOne(experiment: Experiment): Promise<void> {
    const { id, timeline } = experiment;
    const keys = [this.#recordKey(id)];
    const values = [writeRecord(experiment)];
    if (this.#timelines.get(id) !== timeline) {
      keys.push(this.#timelineKey(id));
      values.push(JSON.stringify(timeline));
    }
    await this.leadership.run(SAVE_EXPERIMENT, keys, values);
    this.#timelines.set(id, timeline);
  }

  /** Does work on the queue in the background, in order, again and again until Redis takes it. */
  #chore(name: string, work: () => Promise<void>): void {
    const attempt = async (): Promise<void> => {
      for (;;) {
        try {
          await this.leadership.run(CONFIRM, [], []);
          return await work();
        } catch (error) {
          if (!this.leadership.isLeading) return;
          const because = FleetError.from(error).message;
          this.#log.warn({ event: "queue work is tried again", name, because });
          if (this.#isClosed) return;
          await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
        }
      }
    };
    this.#chores = this.#chores.then(attempt);
  }

  async #enqueue(experiment: Experiment): Promise<void> {
    const remaining = stageNames(experiment).slice(experiment.stageIndex);
    await this.#queue.remove(experiment.id, remaining);
    await this.#queue.add(experiment.id, remaining, experiment.priority);
  }

  async #reconcile(experiment: Experiment, judge: Judge): Promise<void> {
    if (isFinished(experiment)) return;
    const { name } = presentStage(experiment);
    switch (await this.#queue.stateOf(experiment.id, name)) {
      // Also what no processor has come to yet: a worker may join first, and the highest priority
      // has to be known by then.
      case "delayed":
      case "active":
      case "waiting":
      case "prioritized":
        judge(experiment.id, name);
        return;
      case "waiting-children": {
        const before = experiment.stages[experiment.stageIndex - 1];
        if (before) await this.#queue.wake(experiment.id, before.name);
        return;
      }
    }
    this.#log.warn({ event: "experiment queued again", experiment: experiment.id });
    await this.#enqueue(experiment);
  }

  async #reach<Result>(work: () => Promise<Result>): Promise<Result> {
    return await reachRedis(this.address, work);
  }

  #key(name: string): string {
    return `${this.#prefix}:${name}`;
  }

  #recordKey(id: string): string {
    return this.#key(`experiment:${id}`);
  }

  #timelineKey(id: string): string {
    return this.#key(`timeline:${id}`);
  }

  /** Of all that is kept of it, in the order that the scripts have them. */
  #keysOf(id: string): readonly string[] {
    const keys = [this.#recipeKey(id), this.#recordKey(id), this.#timelineKey(id)];
    return [...keys, this.#key(`curves:${id}`)];
  }

  #recipeKey(id: string): string {
    return this.#key(`recipe:${id}`);
  }
}

function stageNames(experiment: Experiment): StageName[] {
  return experiment.stages.map((stage) => stage.name);
}
