/**
 * The queue of stages, on BullMQ: a flow in which `linear` waits for `pretrain`.
 *
 * Training is never run by a processor. BullMQ gives a job to a second processor when the first
 * one's event loop was busy for longer than the job's lock, even with one attempt; a run of days
 * would meet that. So a processor only asks for a verdict: a stage that is to run is handed over to
 * the scheduler, and its job is parked among the delayed ones. When the stage has ended the job is
 * promoted, asked about again, and completes or fails.
 *
 * A parked job comes back by itself after PARK_MS and is parked again: a promotion that was lost in
 * a crash is made up for then.
 */

import { BullMQAdapter } from "@bull-board/api/bullMQAdapter";
import { DelayedError, FlowProducer, type Job, Queue, UnrecoverableError, Worker } from "bullmq";
import type { Log } from "../../proto/log.ts";
import type { StageName } from "../../proto/recipe.ts";
import type { RedisConnections } from "./redis-connection.ts";

const QUEUE = "stages";
const PARK_MS = 3_600_000;
/** Processors only ask and park. */
const CONCURRENCY = 16;
/** BullMQ starts with the lowest number; ours go up from 0. */
const PRIORITY_BASE = 1_000_000;
/** A job cannot be changed while its processor is in the act of parking it. */
const BUSY_RETRY_MS = 20;
const BUSY_RETRIES_MAX = 100;
/** A job that a coordinator may not judge any more is put back for so long. */
const PUT_BACK_MS = 1_000;
/** After an outage of Redis its processors take jobs again; 15 s by default. */
const OUTAGE_RETRY_MS = 500;

/** What has to happen to a stage's job. */
export type Verdict =
  /** The stage is to run, or runs: the scheduler has it. */
  | { readonly type: "park" }
  | { readonly type: "complete" }
  | { readonly type: "fail"; readonly because: string };

/** Tells what to do with a job; hands its stage over to the scheduler when it is to run. */
export type Judge = (experimentId: string, stage: StageName) => Verdict;

interface StageJob {
  readonly experimentId: string;
  readonly stage: StageName;
}

/** Jobs by state, as BullMQ counts them. */
export type QueueDepth = Readonly<Record<string, number>>;

export class StageQueue {
  readonly #queue: Queue<StageJob>;
  readonly #flows: FlowProducer;
  readonly #connections: RedisConnections;
  readonly #prefix: string;
  readonly #log: Log;
  readonly #isConfirmed: () => Promise<boolean>;
  #worker: Worker<StageJob> | undefined;

  constructor(setting: {
    readonly connections: RedisConnections;
    readonly prefix: string;
    readonly log: Log;
    /** Whether this coordinator still leads, as Redis has it now. */
    readonly isConfirmed: () => Promise<boolean>;
  }) {
    const { connections, prefix } = setting;
    this.#connections = connections;
    this.#prefix = `${prefix}:queue`;
    this.#log = setting.log;
    this.#isConfirmed = setting.isConfirmed;
    const options = { connection: connections.commands, prefix: this.#prefix };
    this.#queue = new Queue(QUEUE, options);
    this.#flows = new FlowProducer(options);
    this.#queue.on("error", (error) => this.#complain(error));
    this.#flows.on("error", (error) => this.#complain(error));
  }

  /** Starts to take jobs and to ask `judge` about them. */
  start(judge: Judge): void {
    this.#worker = new Worker<StageJob>(QUEUE, (job, token) => this.#process(job, token, judge), {
      connection: this.#connections.patient,
      prefix: this.#prefix,
      concurrency: CONCURRENCY,
      // A processor that died with its coordinator is not the stage's fault.
      maxStalledCount: Number.MAX_SAFE_INTEGER,
      lockDuration: 10_000,
      stalledInterval: 10_000,
      runRetryDelay: OUTAGE_RETRY_MS,
    });
    this.#worker.on("error", (error) => this.#complain(error));
  }

  /** Queues `stages` so that each one waits for the one before. */
  async add(experimentId: string, stages: readonly StageName[], priority: number): Promise<void> {
    const [first, ...later] = stages.map((stage) => ({
      name: stage,
      queueName: QUEUE,
      data: { experimentId, stage },
      opts: {
        jobId: jobId(experimentId, stage),
        priority: PRIORITY_BASE - priority,
        failParentOnFailure: true,
        removeOnComplete: { count: 1_000 },
        removeOnFail: { count: 1_000 },
      },
    }));
    if (!first) return;
    let flow: Parameters<FlowProducer["add"]>[0] = first;
    for (const parent of later) flow = { ...parent, children: [flow] };
    const { failParentOnFailure: _, ...opts } = flow.opts ?? {};
    await this.#flows.add({ ...flow, opts });
  }

  /** Takes a parked job out of the delayed ones, so that it is asked about again; else throws. */
  async wake(experimentId: string, stage: StageName): Promise<void> {
    await this.#whenNotBusy(async () => {
      const job = await this.#queue.getJob(jobId(experimentId, stage));
      const state = await job?.getState();
      if (state === "active") return false;
      if (state === "delayed") await job?.promote();
      return true;
    });
  }

  /** Removes whatever is queued of these stages. */
  async remove(experimentId: string, stages: readonly StageName[]): Promise<void> {
    // A parent takes its children with it.
    for (const stage of stages.toReversed()) {
      await this.#whenNotBusy(async () => {
        const job = await this.#queue.getJob(jobId(experimentId, stage));
        if ((await job?.getState()) === "active") return false;
        await job?.remove({ removeChildren: true });
        return true;
      });
    }
  }

  /** The state of a stage's job: "delayed" means parked; "unknown" that there is none. */
  async stateOf(experimentId: string, stage: StageName): Promise<string> {
    const job = await this.#queue.getJob(jobId(experimentId, stage));
    return job ? await job.getState() : "unknown";
  }

  async depth(): Promise<QueueDepth> {
    return await this.#queue.getJobCounts(
      "waiting",
      "prioritized",
      "active",
      "delayed",
      "waiting-children",
      "completed",
      "failed",
    );
  }

  /** It can be looked at and no more. */
  forBoard(): BullMQAdapter {
    return new BullMQAdapter(this.#queue, { readOnlyMode: true });
  }

  async close(): Promise<void> {
    // Processors are short; one that hangs on a Redis that is away must not hold the exit up.
    await this.#worker?.close(this.#connections.commands.status !== "ready");
    await this.#queue.close();
    await this.#flows.close();
  }

  async #process(job: Job<StageJob>, token: string | undefined, judge: Judge): Promise<void> {
    const { experimentId, stage } = job.data;
    if (!(await this.#isConfirmed())) {
      // Its successor may know what this one does not, and takes the job then.
      await job.moveToDelayed(Date.now() + PUT_BACK_MS, token);
      throw new DelayedError();
    }
    const verdict = judge(experimentId, stage);
    switch (verdict.type) {
      case "park":
        await job.moveToDelayed(Date.now() + PARK_MS, token);
        throw new DelayedError();
      case "complete":
        return;
      case "fail":
        throw new UnrecoverableError(verdict.because);
    }
  }

  /** @throws when `attempt` still fails, or finds the job busy, after BUSY_RETRIES_MAX times */
  async #whenNotBusy(attempt: () => Promise<boolean>): Promise<void> {
    let problem: unknown = new Error("the job stayed busy");
    for (let retry = 0; retry < BUSY_RETRIES_MAX; retry++) {
      try {
        if (await attempt()) return;
      } catch (error) {
        // A job may change between two of our steps: the next look is a new one.
        problem = error;
      }
      await new Promise((resolve) => setTimeout(resolve, BUSY_RETRY_MS));
    }
    throw problem;
  }

  #complain(error: Error): void {
    // A lost connection is reported by the connection itself.
    this.#log.debug({ event: "queue error", because: error.message });
  }
}

function jobId(experimentId: string, stage: StageName): string {
  return `${experimentId}-${stage}`;
}
