/**
 * The scheduler: one loop over a closed set of events. It holds what is known of experiments and
 * workers, asks the pure rules (experiment/, member/, gang/) what follows from an event, and
 * carries that out. It never waits: Redis is written behind, and workers are told without an
 * answer.
 *
 * All of it runs on one thread and each event is handled to its end, so that there are no races
 * here.
 */

import { LEASE_MS } from "../../proto/limits.ts";
import type { Log } from "../../proto/log.ts";
import type { StageName } from "../../proto/recipe.ts";
import { type Experiment, holdersOf, isFinished, presentStage } from "../experiment/experiment.ts";
import type { Straggler } from "../gang/stragglers.ts";
import type { Assignment, Draining, Member, WorkerFacts } from "../member/member.ts";
import type { Verdict } from "../store/stage-queue.ts";
import type { Store, StoredExperiment } from "../store/store.ts";
import { abortIfStale } from "./abort-if-stale.ts";
import { carryOut, type Hands } from "./carry-out.ts";
import { dismissDedicated } from "./dismiss-dedicated.ts";
import { drainWorker } from "./drain-worker.ts";
import { followPlan } from "./follow-plan.ts";
import { GenerationNumbers } from "./generation-numbers.ts";
import { judgeStage } from "./judge-stage.ts";
import { type ExperimentListener, Ledger } from "./ledger.ts";
import { type Hints, Planner } from "./planner.ts";
import { Roster } from "./roster.ts";
import type { Running, SchedulerEvent, Session, WorkerSays } from "./scheduler-events.ts";
import { StoppingGangs } from "./stopping-gangs.ts";
import { StragglerWatch } from "./straggler-watch.ts";

const TICK_MS = 250;
/**
 * Workers look for a restarted coordinator every 2 s at the latest, and have to start a channel.
 */
const ADOPTION_LEASES = 3;
/** Longer than most steps: a gang that takes longer gives its step up. */
const BOUNDARY_TIMEOUT_MS = 30_000;
/** A checkpoint of a large model on slow storage has to fit. */
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
  /** So long a gang may take to stop at a step boundary. */
  readonly boundaryTimeoutMs?: number;
  /** So long it may take to give a step up, and to write a checkpoint. */
  readonly stopTimeoutMs?: number;
  /** Whether gangs may be formed now. */
  readonly mayAct?: () => boolean;
  /** By experiment: what else keeps it waiting, for people. */
  readonly hints?: Hints;
}

export class Scheduler {
  readonly #store: SchedulerOptions["store"];
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #leaseMs: number;
  readonly #mayAct: () => boolean;
  readonly #roster: Roster;
  readonly #ledger: Ledger;
  readonly #planner: Planner;
  /** Experiments whose present stage the queue has let go. */
  readonly #handedOver = new Set<string>();
  readonly #stopping: StoppingGangs;
  readonly #stragglers: StragglerWatch;
  readonly #generations: GenerationNumbers;
  #isClosing = false;
  #lastTickMs: number;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: SchedulerOptions) {
    this.#store = options.store;
    this.#log = options.log;
    this.#clock = options.clock;
    this.#leaseMs = options.leaseMs ?? LEASE_MS;
    const { hints = new Map() } = options;
    this.#planner = new Planner({ log: this.#log, leaseMs: this.#leaseMs, hints });
    this.#mayAct = options.mayAct ?? (() => true);
    this.#generations = new GenerationNumbers(this.#store, this.#log);
    this.#lastTickMs = this.#clock.monotonicMs();
    this.#ledger = new Ledger({
      store: this.#store,
      log: this.#log,
      unixMs: () => this.#clock.unixMs(),
      onEffect: (experiment, effect) => carryOut(experiment, effect, hands),
    });
    this.#roster = new Roster({
      leaseMs: this.#leaseMs,
      now: () => this.#clock.monotonicMs(),
      log: this.#log,
      onLost: (worker, assignment, because) => this.#lost(worker, assignment, because),
    });
    const hands: Hands = {
      roster: this.#roster,
      ledger: this.#ledger,
      store: this.#store,
      handedOver: this.#handedOver,
    };
    this.#stragglers = new StragglerWatch(this.#ledger);
    this.#stopping = new StoppingGangs({
      ledger: this.#ledger,
      roster: this.#roster,
      boundaryTimeoutMs: options.boundaryTimeoutMs ?? BOUNDARY_TIMEOUT_MS,
      timeoutMs: options.stopTimeoutMs ?? STOP_TIMEOUT_MS,
    });
  }

  /**
   * Takes over what an earlier coordinator has left. Gangs that were training are expected back:
   * each member has a few leases to join again with its generation in hand.
   */
  restore(stored: readonly StoredExperiment[], epoch: number): void {
    for (const one of stored) {
      this.#ledger.take(one);
      const { experiment } = one;
      const { name: stage } = presentStage(experiment);
      const { id: experimentId, generation } = experiment;
      this.#generations.isUsed(generation);
      for (const [worker, rank] of holdersOf(experiment)) {
        const assignment: Assignment = { experimentId, stage, generation, rank };
        this.#roster.expect(worker, assignment, ADOPTION_LEASES * this.#leaseMs);
        const { phase } = experiment;
        if (phase.status !== "stopping" || !phase.drained?.includes(worker)) continue;
        const draining: Draining = { by: "operator", because: phase.because };
        this.#roster.apply(worker, { type: "draining", draining });
      }
      if (isFinished(experiment)) continue;
      const occurrence = "coordinator-took-over";
      const message = `a coordinator has taken over, epoch ${epoch}`;
      this.#ledger.apply(experimentId, { type: "noted", occurrence, message });
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
    for (const { id, generation } of this.#ledger.all()) {
      const how = { cause: "membership", because, keepCheckpoint: true } as const;
      this.#ledger.apply(id, { type: "reform", generation, ...how });
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

  /** The slow ranks of its present gang. */
  stragglers(experiment: Experiment): readonly Straggler[] {
    return this.#stragglers.of(experiment);
  }

  /** A worker's name, for people. */
  nameOf(worker: string): string {
    return this.#roster.nameOf(worker);
  }

  members(): readonly Member[] {
    return this.#roster.members();
  }

  member(id: string): Member | undefined {
    return this.#roster.get(id);
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

    const verdict = judgeStage(experiment, stage);
    const isDue = verdict.type === "park" && presentStage(experiment).name === stage;
    if (isDue) this.dispatch({ type: "handed-over", experimentId: id });
    return verdict;
  }

  /**
   * Handles one event to its end.
   *
   * @throws {FleetError} NOT_FOUND or STATE_CONFLICT for what operators ask
   */
  dispatch(event: SchedulerEvent): void {
    switch (event.type) {
      case "submitted":
        this.#submitted(event.experiment, event.recipeJson);
        break;
      case "cancel":
      case "retry":
      case "pause":
      case "resume":
        this.experiment(event.experimentId);
        this.#ledger.apply(event.experimentId, { type: event.type });
        break;
      case "drain-worker":
        this.#drain(event.worker, { by: "operator", because: "an operator wants it to leave" });
        break;
      case "handed-over":
        this.#handedOver.add(event.experimentId);
        break;
      case "worker-joined":
        this.#joined(event.facts, event.running, event.session);
        break;
      case "worker-disconnected":
        if (this.#roster.isPresent(event.id, event.session)) this.#disconnected(event.id);
        break;
      case "worker-said":
        if (this.#roster.isPresent(event.id, event.session)) this.#said(event.id, event.message);
        break;
      case "noted": {
        const { experimentId, ...noted } = event;
        this.#ledger.apply(experimentId, noted);
        break;
      }
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
    if (generation !== undefined) this.#generations.isUsed(generation);

    if (known?.status === "busy" && known.assignment.generation === generation) {
      this.#roster.connect(worker, session);
      this.#roster.apply(worker, { type: "joined", facts });
    } else {
      // What it held it does not hold any more.
      if (known?.status === "busy") this.#lost(worker, known.assignment, "it started anew");
      this.#roster.join(facts, session, running);
    }
    if (running) abortIfStale(worker, running, { ledger: this.#ledger, roster: this.#roster });
  }

  #disconnected(worker: string): void {
    this.#roster.disconnect(worker);
    const member = this.#roster.get(worker);
    if (member?.status === "busy") this.#stopping.evictForsaken(member.assignment.experimentId);
  }

  #drain(worker: string, draining: Draining): void {
    this.#log.info({ event: "worker drains", worker, ...draining });
    drainWorker(worker, draining, { ledger: this.#ledger, roster: this.#roster });
  }

  #said(worker: string, message: WorkerSays): void {
    switch (message.type) {
      case "heartbeat":
        this.#heartbeat(worker, message);
        return;
      case "draining":
        this.#drain(worker, { by: "worker", because: message.because });
        return;
      case "stopped": {
        const { type: _, experimentId, ...said } = message;
        const { generation } = said;
        const name = this.#roster.nameOf(worker);
        this.#roster.apply(worker, { type: "drained", generation });
        const nowMs = this.#clock.monotonicMs();
        this.#planner.accuse(this.#ledger.find(experimentId), { worker, ...said, nowMs });
        this.#ledger.apply(experimentId, { type: "left", worker, name, ...said });
        this.#stopping.evictForsaken(experimentId);
        return;
      }
      case "progress":
      case "result":
      case "failure": {
        const { type, experimentId, generation } = message;
        // Also one that is said again, of a stage that has gone on.
        const isDone = type === "result" && this.#ledger.find(experimentId) !== undefined;
        if (isDone) this.#roster.apply(worker, { type: "drained", generation });
        this.#ledger.apply(experimentId, { ...message, worker });
        return;
      }
    }
  }

  #heartbeat(worker: string, said: Extract<WorkerSays, { type: "heartbeat" }>): void {
    const { running, rssBytes, times } = said;
    const step = running?.step ?? 0;
    const heard = { step, rssBytes, ...(times ? { times } : {}) };
    this.#roster.apply(worker, { type: "heartbeat", ...heard });
    const member = this.#roster.get(worker);
    if (member?.status !== "busy") return;
    const { assignment, facts, assignedMs } = member;
    if (running) {
      const isPresent = running.generation === assignment.generation;
      if (times && isPresent) this.#stragglers.hear(assignment.experimentId, facts, times);
      return;
    }
    // An assignment may have crossed with this heartbeat, but not for that long.
    if (this.#clock.monotonicMs() - assignedMs < this.#leaseMs) return;
    // Its assignment is lost or still under way: a new connection leaves no doubt which.
    this.#roster.apply(worker, { type: "evicted", because: "it reports to be idle" });
  }

  #lost(worker: string, { experimentId, generation }: Assignment, because: string): void {
    const name = this.#roster.nameOf(worker);
    this.#ledger.apply(experimentId, { type: "lost", generation, worker, name, because });
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
    this.#stopping.tick(now);
    this.#stragglers.forgetEnded();
    dismissDedicated({ ledger: this.#ledger, roster: this.#roster }, this.#log);
    this.#draw();
  }

  #plan(): void {
    if (this.#isClosing || !this.#mayAct()) return;
    const plans = this.#planner.plan(this.experiments(), {
      handedOver: this.#handedOver,
      fleet: this.#roster.candidates(),
      nowMs: this.#clock.monotonicMs(),
    });
    const means = { ledger: this.#ledger, generations: this.#generations };
    for (const plan of plans) followPlan(plan, means);
    if (plans.some(({ type }) => type === "start")) this.#draw();
  }

  #draw(): void {
    if (this.#isClosing) return;
    this.#generations.draw((generations) =>
      this.dispatch({ type: "generations-drawn", generations }),
    );
  }
}
