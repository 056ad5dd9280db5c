/**
 * The scheduler: one loop over a closed set of events. It holds what is known of experiments and
 * workers, asks the pure rules (experiment/, member/, gang/) what follows from an event, and
 * carries that out. It never waits: Redis is written behind, and workers are told without an
 * answer.
 *
 * All of it runs on one thread and each event is handled to its end, so that there are no races
 * here.
 */

import { LEASE_MS } from "../proto/limits.ts";
import type { Log } from "../proto/log.ts";
import type { StageName } from "../proto/recipe.ts";
import {
  type Experiment,
  type ExperimentEffect,
  holdersOf,
  presentStage,
} from "./experiment/experiment.ts";
import { type GangRequest, planGangs } from "./gang/plan-gangs.ts";
import { GenerationNumbers } from "./generation-numbers.ts";
import { type ExperimentListener, Ledger } from "./ledger.ts";
import type { Assignment, Member, WorkerFacts } from "./member/member.ts";
import { Roster } from "./roster.ts";
import type { Running, SchedulerEvent, Session, WorkerSays } from "./scheduler-events.ts";
import { StoppingGangs } from "./stopping-gangs.ts";
import type { Verdict } from "./store/stage-queue.ts";
import type { Store, StoredExperiment } from "./store/store.ts";

const TICK_MS = 250;
/**
 * Workers look for a restarted coordinator every 2 s at the latest, and have to start a channel.
 */
const ADOPTION_LEASES = 3;
/** A step of a large model on a slow machine, and a checkpoint, have to fit. */
const STOP_TIMEOUT_MS = 180_000;

export interface Clock {
  /** Never jumps; for leases and timeouts. */
  monotonicMs(): number;
  /** For people. */
  unixMs(): number;
}

export interface SchedulerOptions {
  readonly store: Pick<Store, "save" | "stageEnded" | "requeue" | "forget" | "drawGenerations">;
  readonly log: Log;
  readonly clock: Clock;
  readonly leaseMs?: number;
  readonly stopTimeoutMs?: number;
}

export class Scheduler {
  readonly #store: SchedulerOptions["store"];
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #leaseMs: number;
  readonly #stopTimeoutMs: number;
  readonly #roster: Roster;
  readonly #ledger: Ledger;
  /** Experiments whose present stage the queue has let go. */
  readonly #handedOver = new Set<string>();
  readonly #stopping: StoppingGangs;
  readonly #generations: GenerationNumbers;
  #isClosing = false;
  #lastTickMs: number;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: SchedulerOptions) {
    this.#store = options.store;
    this.#log = options.log;
    this.#clock = options.clock;
    this.#leaseMs = options.leaseMs ?? LEASE_MS;
    this.#stopTimeoutMs = options.stopTimeoutMs ?? STOP_TIMEOUT_MS;
    this.#generations = new GenerationNumbers(this.#store, this.#log);
    this.#stopping = new StoppingGangs(this.#stopTimeoutMs);
    this.#lastTickMs = this.#clock.monotonicMs();
    this.#ledger = new Ledger({
      store: this.#store,
      log: this.#log,
      unixMs: () => this.#clock.unixMs(),
      onEffect: (experiment, effect) => this.#carryOut(experiment, effect),
    });
    this.#roster = new Roster({
      leaseMs: this.#leaseMs,
      now: () => this.#clock.monotonicMs(),
      log: this.#log,
      onLeft: (worker, assignment, because) => this.#left(worker, assignment, because),
    });
  }

  /**
   * Takes over what an earlier coordinator has left. Gangs that were training are expected back:
   * each member has a few leases to join again with its generation in hand.
   */
  restore(stored: readonly StoredExperiment[]): void {
    for (const one of stored) {
      this.#ledger.take(one);
      const { experiment } = one;
      const { name: stage } = presentStage(experiment);
      const { id: experimentId, generation } = experiment;
      for (const [worker, rank] of holdersOf(experiment)) {
        const assignment: Assignment = { experimentId, stage, generation, rank };
        this.#roster.expect(worker, assignment, ADOPTION_LEASES * this.#leaseMs);
      }
    }
  }

  /** Starts the clockwork: leases, timeouts, and drawing of generations. */
  start(): void {
    this.#lastTickMs = this.#clock.monotonicMs();
    this.#timer = setInterval(() => this.dispatch({ type: "tick" }), TICK_MS);
    this.#draw();
  }

  /**
   * Ends scheduling. No gang is formed any more; with `dismiss`, running ones are stopped and all
   * workers are sent away, otherwise they go on and look for the next coordinator.
   */
  close(options: { readonly dismiss: boolean }): void {
    this.#isClosing = true;
    clearInterval(this.#timer);
    if (!options.dismiss) return;
    const because = "the coordinator is shutting down";
    for (const experiment of this.#ledger.all()) {
      const { id: experimentId, generation } = experiment;
      for (const worker of holdersOf(experiment).keys()) {
        this.#sendAbort(worker, { experimentId, generation, because });
      }
    }
    this.#roster.sendAll({ type: "dismiss", because });
  }

  /** In the order of submission. */
  experiments(): readonly Experiment[] {
    return this.#ledger.all();
  }

  /** @throws {FleetError} NOT_FOUND */
  experiment(id: string): Experiment {
    return this.#ledger.get(id);
  }

  /** The resolved recipe of an experiment, JSON. */
  recipeJson(id: string): string {
    return this.#ledger.recipeJson(id);
  }

  members(): readonly Member[] {
    return this.#roster.members();
  }

  sessionCount(): number {
    return this.#roster.sessionCount();
  }

  /** Calls `listener` after each change of the experiment; returns the way to stop that. */
  watch(id: string, listener: ExperimentListener): () => void {
    return this.#ledger.watch(id, listener);
  }

  /** What the queue has to do with a stage's job; see StageQueue. */
  judge(id: string, stage: StageName): Verdict {
    const experiment = this.#ledger.find(id);
    if (!experiment) return { type: "fail", because: "the experiment was removed" };

    const index = experiment.stages.findIndex(({ name }) => name === stage);
    const { phase } = experiment;
    if (index < experiment.stageIndex || phase.status === "succeeded") return { type: "complete" };
    if (phase.status === "failed") return { type: "fail", because: phase.message };
    if (phase.status === "cancelled") return { type: "fail", because: "cancelled" };
    if (index === experiment.stageIndex) this.dispatch({ type: "handed-over", experimentId: id });
    return { type: "park" };
  }

  /**
   * Handles one event to its end.
   *
   * @throws {FleetError} NOT_FOUND or STATE_CONFLICT for `cancel` and `retry`
   */
  dispatch(event: SchedulerEvent): void {
    switch (event.type) {
      case "submitted":
        this.#submitted(event.experiment, event.recipeJson);
        break;
      case "cancel":
      case "retry":
        this.experiment(event.experimentId);
        this.#ledger.apply(event.experimentId, { type: event.type });
        break;
      case "handed-over":
        this.#handedOver.add(event.experimentId);
        break;
      case "worker-joined":
        this.#joined(event.facts, event.running, event.session);
        break;
      case "worker-disconnected":
        if (this.#roster.isPresent(event.id, event.session)) this.#roster.disconnect(event.id);
        break;
      case "worker-said":
        if (this.#roster.isPresent(event.id, event.session)) this.#said(event.id, event.message);
        break;
      case "generations-drawn":
        this.#generations.add(event.generations);
        break;
      case "tick":
        this.#tick();
        break;
    }
    this.#plan();
  }

  #submitted(experiment: Experiment, recipeJson: string): void {
    this.#ledger.take({ experiment, recipeJson });
    const { id, name, recipeName, priority } = experiment;
    this.#log.info({ event: "experiment submitted", experiment: id, name, recipeName, priority });
    this.#store.requeue(experiment);
    this.#ledger.forgetOldest();
  }

  #joined(facts: WorkerFacts, running: Running | undefined, session: Session): void {
    const known = this.#roster.get(facts.id);
    const { id: worker, name, engine, device } = facts;
    const generation = running?.generation;
    this.#log.info({ event: "worker joined", worker, name, engine, device, generation });

    if (known?.status === "busy" && known.assignment.generation === generation) {
      this.#roster.connect(worker, session);
      this.#roster.apply(worker, { type: "joined", facts });
    } else {
      // What it held it does not hold any more.
      if (known?.status === "busy") this.#left(worker, known.assignment, "it started anew");
      this.#roster.join(facts, session, running);
    }
    if (running) this.#abortIfStale(worker, running);
  }

  /** A worker that comes back may not know that its generation is over. */
  #abortIfStale(worker: string, { experimentId, generation }: Running): void {
    const experiment = this.#ledger.find(experimentId);
    const isHeld = experiment?.generation === generation && holdersOf(experiment).has(worker);
    if (isHeld && experiment.phase.status !== "stopping") return;
    const because = isHeld ? "the gang is stopping" : "this generation was replaced";
    this.#sendAbort(worker, { experimentId, generation, because });
  }

  #sendAbort(
    worker: string,
    abort: Pick<Running, "experimentId" | "generation"> & { readonly because: string },
  ): void {
    const how = { atStepBoundary: false, keepCheckpoint: true };
    this.#roster.send(worker, { type: "abort", ...abort, ...how });
  }

  #said(worker: string, message: WorkerSays): void {
    switch (message.type) {
      case "heartbeat":
        this.#heartbeat(worker, message.running, message.rssBytes);
        return;
      case "draining":
        this.#log.info({ event: "worker drains", worker, because: message.because });
        return;
      case "stopped": {
        const { experimentId, generation, step, because } = message;
        this.#roster.apply(worker, { type: "drained", generation });
        this.#ledger.apply(experimentId, { type: "left", generation, worker, because, step });
        return;
      }
      case "progress":
      case "result":
      case "failure": {
        const { experimentId, ...event } = message;
        this.#ledger.apply(experimentId, { ...event, worker });
        return;
      }
    }
  }

  #heartbeat(worker: string, running: Running | undefined, rssBytes: number): void {
    this.#roster.apply(worker, { type: "heartbeat", step: running?.step ?? 0, rssBytes });
    const member = this.#roster.get(worker);
    if (member?.status !== "busy" || running) return;
    // An assignment may have crossed with this heartbeat, but not for that long.
    if (this.#clock.monotonicMs() - member.assignedMs < this.#leaseMs) return;
    // Its assignment is lost or still under way: a new connection leaves no doubt which.
    this.#roster.apply(worker, { type: "evicted", because: "it reports to be idle" });
  }

  #left(worker: string, { experimentId, generation }: Assignment, because: string): void {
    this.#ledger.apply(experimentId, { type: "left", generation, worker, because });
  }

  #tick(): void {
    const now = this.#clock.monotonicMs();
    const pauseMs = now - this.#lastTickMs;
    this.#lastTickMs = now;
    if (pauseMs > this.#leaseMs / 2) {
      // This process was stopped or starved: heartbeats wait in its sockets, unread.
      this.#log.warn({ event: "coordinator paused", pauseMs: Math.round(pauseMs) });
      for (const member of this.#roster.members()) {
        this.#roster.apply(member.facts.id, { type: "reprieved" });
      }
    }
    this.#roster.tick();
    this.#evictLaggards(now);
    this.#draw();
  }

  /** A gang that does not come apart in time is taken apart: its laggards have to join again. */
  #evictLaggards(now: number): void {
    const because = `it did not stop in ${this.#stopTimeoutMs} ms`;
    for (const experiment of this.#stopping.overdue(this.experiments(), now)) {
      const { id, generation } = experiment;
      for (const worker of holdersOf(experiment).keys()) {
        const member = this.#roster.get(worker);
        const isHeld = member?.status === "busy" && member.assignment.generation === generation;
        if (isHeld) this.#roster.apply(worker, { type: "evicted", because });
        else this.#ledger.apply(id, { type: "left", generation, worker, because });
      }
    }
  }

  #plan(): void {
    if (this.#isClosing) return;
    const requests = this.experiments().flatMap((experiment): GangRequest[] => {
      if (experiment.phase.status !== "waiting") return [];
      const { id, priority, submittedUnixMs, lastGang: preferred } = experiment;
      const { workers } = presentStage(experiment);
      const isHandedOver = this.#handedOver.has(id);
      return [{ experimentId: id, workers, priority, submittedUnixMs, isHandedOver, preferred }];
    });
    if (requests.length === 0) return;

    for (const plan of planGangs(requests, this.#roster.candidates())) {
      if (plan.type === "wait") {
        this.#ledger.apply(plan.experimentId, { type: "still-waiting", reason: plan.reason });
        continue;
      }
      const generation = this.#generations.take();
      if (generation === undefined) {
        const reason = "waits for Redis to number its generation";
        this.#ledger.apply(plan.experimentId, { type: "still-waiting", reason });
        continue;
      }
      this.#ledger.apply(plan.experimentId, { type: "assigned", generation, gang: plan.gang });
    }
    this.#draw();
  }

  #draw(): void {
    if (this.#isClosing) return;
    this.#generations.draw((generations) =>
      this.dispatch({ type: "generations-drawn", generations }),
    );
  }

  #carryOut(experiment: Experiment, effect: ExperimentEffect): void {
    const { id: experimentId } = experiment;
    switch (effect.type) {
      case "assign": {
        const { generation, stage, gang } = effect;
        const peers = gang.map((workerId) => ({
          workerId,
          address: this.#roster.get(workerId)?.facts.peerAddress ?? "",
        }));
        const recipeJson = this.recipeJson(experimentId);
        for (const [rank, worker] of gang.entries()) {
          const assignment = { experimentId, stage, generation, rank };
          this.#roster.apply(worker, { type: "assign", assignment });
          this.#roster.send(worker, { type: "assignment", ...assignment, peers, recipeJson });
        }
        return;
      }
      case "abort": {
        const { generation, because } = effect;
        for (const worker of effect.workers) {
          this.#sendAbort(worker, { experimentId, generation, because });
        }
        return;
      }
      case "release":
        this.#roster.apply(effect.worker, { type: "drained", generation: effect.generation });
        return;
      case "stage-ended":
        this.#handedOver.delete(experimentId);
        this.#store.stageEnded(experiment, effect.stage);
        return;
      case "requeue":
        this.#handedOver.delete(experimentId);
        this.#store.requeue(experiment);
        return;
    }
  }
}
