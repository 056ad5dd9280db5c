/**
 * A fleet in simulated time: the production scheduler, and workers, connections and a store that
 * are made of nothing but a seed. Workers crash, freeze, lose their connection with whatever is in
 * flight, and come back; gangs break, shrink and grow; the coordinator dies and starts again from
 * its store. Beside the workers that take anything there are some that are dedicated.
 */

import assert from "node:assert/strict";
import { type Experiment, isFinished } from "../../coordinator/experiment/experiment.ts";
import type { Dedication } from "../../coordinator/member/dedication.ts";
import { Scheduler } from "../../coordinator/scheduling/scheduler.ts";
import type { CoordinatorSays, WorkerSays } from "../../coordinator/scheduling/scheduler-events.ts";
import type { StoredExperiment } from "../../coordinator/store/store.ts";
import { openLog } from "../../proto/log.ts";
import type { StageName } from "../../proto/recipe.ts";
import type { Prng } from "../support/prng.ts";
import { drawSizes, newExperiment, progressOf } from "./experiments.ts";
import { FleetInvariants } from "./fleet-invariants.ts";
import { drawDedication, isOver } from "./simulated-dedication.ts";
import { operateAtWhim, resumeAll, retryAll } from "./simulated-operator.ts";
import { SimulatedTraining } from "./simulated-training.ts";
import {
  type Faults,
  factsOf,
  type Holding,
  newWorker,
  openLink,
  runningOf,
  type SimulatedWorker,
} from "./simulated-worker.ts";

const TICK_MS = 500;
const LEASE_MS = 5_000;
const STEPS_PER_STAGE = 12;
const CHECKPOINT_EVERY = 4;
const PATIENCE_TICKS = 4;

const log = openLog({ level: "silent", process: "simulation" });

export class SimulatedFleet {
  faults: Faults;
  readonly #prng: Prng;
  /** Workers that take any work. */
  readonly #size: number;
  /** And such that are dedicated to some. */
  readonly #dedicated: number;
  readonly #records = new Map<string, StoredExperiment>();
  readonly #workers: SimulatedWorker[] = [];
  readonly #dedications = new Map<string, Dedication>();
  readonly #training = new SimulatedTraining();
  readonly #invariants = new FleetInvariants(this.#training);
  #scheduler: Scheduler;
  #nowMs = 0;
  #generations = 0;
  #incarnations = 0;

  constructor(prng: Prng, faults: Faults) {
    this.#prng = prng;
    this.faults = faults;
    this.#size = prng.int(2, 6);
    this.#dedicated = prng.int(0, 3);
    this.#scheduler = this.#boot();
    for (let count = prng.int(1, 4); count > 0; count--) this.#submit();
  }

  experiments(): readonly Experiment[] {
    return this.#scheduler.experiments();
  }

  /** Puts failed and cancelled experiments back in the queue. */
  retryAll(): void {
    retryAll(this.#scheduler);
  }

  async tick(): Promise<void> {
    this.#nowMs += TICK_MS;
    if (this.#prng.chance(this.faults.coordinatorCrash)) this.#crashCoordinator();
    if (this.#prng.chance(this.faults.operator)) operateAtWhim(this.#scheduler, this.#prng);
    if (this.faults.operator === 0) resumeAll(this.#scheduler);
    this.#startWorkers();

    for (const worker of [...this.#workers]) this.#disturb(worker);
    for (const worker of this.#workers) this.#live(worker);
    for (const worker of this.#workers) this.#deliver(worker);
    // The queue hands over whatever waits in it.
    for (const { id, stages, stageIndex } of this.experiments()) {
      const stage = stages[stageIndex];
      if (stage) this.#scheduler.judge(id, stage.name);
    }
    this.#scheduler.dispatch({ type: "tick" });
    // Numbers of generations are drawn in a promise.
    for (let turn = 0; turn < 4; turn++) await undefined;
  }

  /** Fails when one of the invariants does not hold. */
  check(): void {
    this.#noteAssignments();
    this.#invariants.check({
      experiments: this.experiments(),
      members: this.#scheduler.members(),
      dedications: this.#dedications,
      nowMs: this.#nowMs,
      isCalm: this.#isCalm,
    });
  }

  get #isCalm(): boolean {
    return Object.values(this.faults).every((rate) => rate === 0);
  }

  /**
   * Experiments that are not done, workers that are not free, and those that should have left;
   * empty when all is well.
   */
  complaints(): string[] {
    const unfinished = this.experiments().filter((experiment) => !isFinished(experiment));
    const busy = this.#scheduler.members().filter((member) => member.status === "busy");
    return [
      ...unfinished.map(({ id, phase }) => `${id} is ${phase.status}: ${JSON.stringify(phase)}`),
      ...busy.map(({ facts }) => `${facts.id} is still busy`),
      ...this.#workers.filter(({ holding }) => holding).map(({ id }) => `${id} still trains`),
      ...this.#workers
        .filter((worker) => isOver(worker, this.experiments()))
        .map(({ id }) => `${id} stays on`),
    ];
  }

  #submit(): void {
    const experiment = newExperiment({
      id: `e${this.#records.size}`,
      workers: [drawSizes(this.#prng, this.#size), drawSizes(this.#prng, this.#size)],
      waitMs: this.#prng.int(0, 10) * TICK_MS,
      priority: this.#prng.int(-1, 1),
      submittedUnixMs: this.#nowMs,
    });
    this.#records.set(experiment.id, { experiment, recipeJson: "{}" });
    this.#scheduler.dispatch({ type: "submitted", experiment, recipeJson: "{}" });
  }

  #boot(): Scheduler {
    const scheduler = new Scheduler({
      log,
      leaseMs: LEASE_MS,
      stopTimeoutMs: 4 * LEASE_MS,
      clock: { monotonicMs: () => this.#nowMs, unixMs: () => this.#nowMs },
      store: {
        // As JSON, because that is all that survives in Redis.
        save: (experiment) => {
          const copy: Experiment = JSON.parse(JSON.stringify(experiment));
          this.#records.set(experiment.id, { experiment: copy, recipeJson: "{}" });
        },
        stageEnded: () => {},
        requeue: () => {},
        forget: () => {},
        drawGenerations: async (count) => Array.from({ length: count }, () => ++this.#generations),
      },
    });
    scheduler.restore([...this.#records.values()], 0);
    return scheduler;
  }

  #crashCoordinator(): void {
    for (const { link } of this.#workers) if (link) link.isOpen = false;
    this.#scheduler = this.#boot();
  }

  /** Whoever has gone is replaced; dedicated workers only until the storm is over. */
  #startWorkers(): void {
    const count = (isDedicated: boolean): number =>
      this.#workers.filter(({ dedication }) => (dedication !== undefined) === isDedicated).length;
    while (count(false) < this.#size) this.#startWorker();
    while (!this.#isCalm && count(true) < this.#dedicated) {
      this.#startWorker(drawDedication(this.#prng, this.experiments()));
    }
  }

  #startWorker(dedication?: Dedication): void {
    const id = `w${this.#incarnations++}`;
    if (dedication) this.#dedications.set(id, dedication);
    const made = { id, sinceMs: this.#nowMs, ...(dedication ? { dedication } : {}) };
    this.#workers.push(newWorker(made));
  }

  #disturb(worker: SimulatedWorker): void {
    if (this.#prng.chance(this.faults.crash)) {
      this.#workers.splice(this.#workers.indexOf(worker), 1);
      this.#training.forgetReplica(worker.id);
      this.#close(worker);
    } else if (this.#prng.chance(this.faults.disconnect)) {
      this.#close(worker);
    } else if (this.#prng.chance(this.faults.freeze)) {
      worker.frozenTicks = this.#prng.int(1, 20);
    } else if (worker.holding && this.#prng.chance(this.faults.stick)) {
      worker.isStuck = true;
    }
    if (!worker.isLeaving && this.#prng.chance(this.faults.preempt)) this.#preempt(worker);
    // A process that hangs does not outlive its connection; one of a gang of one is seen by people.
    const isHung = worker.isStuck && (this.#isCalm || !worker.link?.isOpen);
    if (isHung || (worker.isLeaving && !worker.holding)) this.#end(worker);
  }

  #end(worker: SimulatedWorker): void {
    const index = this.#workers.indexOf(worker);
    if (index >= 0) this.#workers.splice(index, 1);
    this.#close(worker);
  }

  #preempt(worker: SimulatedWorker): void {
    worker.isLeaving = true;
    if (worker.holding) worker.holding.isStopping = true;
    this.#say(worker, { type: "draining", because: "SIGTERM" });
  }

  /** The coordinator may see the end of a connection at once, or only when the lease runs out. */
  #close(worker: SimulatedWorker): void {
    const { link, id } = worker;
    worker.link = undefined;
    if (!link) return;
    if (this.#prng.chance(0.5)) worker.outbox.push(...link.toCoordinator.splice(0));
    const isSeen = link.isOpen && this.#prng.chance(0.5);
    link.isOpen = false;
    if (isSeen) this.#scheduler.dispatch({ type: "worker-disconnected", id, session: link });
  }

  /** One tick of a worker's own doings. */
  #live(worker: SimulatedWorker): void {
    if (worker.frozenTicks > 0) {
      worker.frozenTicks -= 1;
      return;
    }
    if (!worker.link?.isOpen) this.#connect(worker);
    const { holding } = worker;
    const running = holding && runningOf(holding);
    this.#say(worker, { type: "heartbeat", rssBytes: 1, ...(running ? { running } : {}) });
    if (holding && !worker.isStuck) this.#train(worker, holding);
  }

  #connect(worker: SimulatedWorker): void {
    const link = openLink();
    worker.link = link;
    const { holding } = worker;
    const facts = factsOf(worker);
    const running = holding && runningOf(holding);
    this.#scheduler.dispatch({
      type: "worker-joined",
      facts,
      session: link,
      ...(running ? { running } : {}),
    });
    link.toCoordinator.push(...worker.outbox.splice(0));
  }

  #say(worker: SimulatedWorker, message: WorkerSays): void {
    if (worker.link?.isOpen) worker.link.toCoordinator.push(message);
    else worker.outbox.push(message);
  }

  /** A gang steps only while all its members hold the generation; otherwise they see it break. */
  #train(worker: SimulatedWorker, holding: Holding): void {
    const { assignment } = holding;
    const { experimentId, generation, rank, stage, peers } = assignment;
    const fenced = { experimentId, generation };
    if (this.#prng.chance(this.faults.fatal)) {
      const failure = { code: "DATA_INVALID", message: "drawn", unixMs: this.#nowMs } as const;
      this.#say(worker, { type: "failure", ...fenced, ...failure, step: holding.step });
      this.#leave(worker, holding, "it failed");
      return;
    }
    const isWhole = peers.every(({ workerId }) => this.#holds(workerId, generation));
    const isBroken = this.#prng.chance(this.faults.breakUp);
    if (isBroken || !isWhole) {
      // A peer that has not heard of the generation yet may still come: patience, for a while.
      holding.brokenTicks += 1;
      const isHopeless = isBroken || holding.brokenTicks > PATIENCE_TICKS;
      if (!isHopeless) return;
      const lostRanks = peers.flatMap(({ workerId }, of) =>
        this.#holds(workerId, generation) ? [] : [of],
      );
      this.#training.miss(lostRanks.map((of) => peers[of]?.workerId ?? ""));
      this.#leave(worker, holding, "the gang broke", lostRanks);
      return;
    }

    // Ranks that share a worker take their part of a step one after the other.
    holding.rankTurns += 1;
    if (holding.rankTurns < this.#ranksOf(experimentId, stage) / peers.length) return;
    holding.rankTurns = 0;
    holding.step += 1;
    if (rank === 0) {
      this.#say(worker, { type: "progress", ...fenced, progress: progressOf(stage, holding.step) });
      if (holding.step % CHECKPOINT_EVERY === 0) {
        this.#training.writeCheckpoint(assignment, holding.step);
      }
    }
    if (holding.isStopping) {
      this.#training.writeCheckpoint(assignment, holding.step);
      this.#leave(worker, holding, "told to, at a step boundary");
      return;
    }
    if (holding.step < STEPS_PER_STAGE) return;
    this.#training.finish(generation, rank);
    this.#say(worker, { type: "result", ...fenced, resultJson: "{}" });
    worker.holding = undefined;
  }

  /** A peer counts as there when it trains the generation, or has come to its end already. */
  #holds(workerId: string, generation: number): boolean {
    const peer = this.#workers.find(({ id }) => id === workerId);
    if (peer?.holding?.assignment.generation === generation) {
      return peer.frozenTicks === 0 && !peer.isStuck;
    }
    return this.#training.hasFinished(workerId, generation);
  }

  #ranksOf(experimentId: string, stage: StageName): number {
    const { stages } = this.#scheduler.experiment(experimentId);
    return stages.find(({ name }) => name === stage)?.ranks ?? 1;
  }

  #leave(
    worker: SimulatedWorker,
    holding: Holding,
    because: string,
    lostRanks: readonly number[] = [],
  ): void {
    const { experimentId, generation } = holding.assignment;
    worker.holding = undefined;
    const { step } = holding;
    this.#training.keepReplica(worker.id, holding.assignment, step);
    this.#say(worker, { type: "stopped", experimentId, generation, step, because, lostRanks });
  }

  #deliver(worker: SimulatedWorker): void {
    const { link, id } = worker;
    if (!link?.isOpen) return;
    for (const message of this.#due(link.toCoordinator)) {
      this.#scheduler.dispatch({ type: "worker-said", id, session: link, message });
    }
    if (worker.frozenTicks > 0) return;
    for (const message of this.#due(link.toWorker)) this.#hear(worker, message);
  }

  /** Takes what arrives now from a queue: messages keep their order. */
  #due<Message>(queue: Message[]): Message[] {
    let count = 0;
    while (count < queue.length && !this.#prng.chance(this.faults.delay)) count++;
    return queue.splice(0, count);
  }

  #hear(worker: SimulatedWorker, message: CoordinatorSays): void {
    const { holding } = worker;
    if (message.type === "abort") {
      if (holding?.assignment.generation !== message.generation || worker.isStuck) return;
      if (message.atStepBoundary) holding.isStopping = true;
      else this.#leave(worker, holding, "told to");
      return;
    }
    if (message.type === "dismiss") {
      worker.isLeaving = true;
      return;
    }

    const { generation, rank, peers, experimentId } = message;
    if (worker.isLeaving) {
      const stopped = { step: 0, because: "the worker is leaving", lostRanks: [] };
      this.#say(worker, { type: "stopped", experimentId, generation, ...stopped });
      return;
    }
    const earlier = holding?.assignment.generation;
    assert.equal(earlier, undefined, `${worker.id} got ${generation} while it holds ${earlier}`);
    assert.equal(
      peers[rank]?.workerId,
      worker.id,
      "the rank is not the worker's place among peers",
    );
    const gang = new Map(peers.map((peer, index) => [index, peer.workerId]));
    const known = this.#training.assigned.get(generation);
    if (known) assert.deepEqual(gang, known, `generation ${generation} has two gangs`);
    worker.holding = {
      assignment: message,
      step: this.#training.firstStep(message, [...gang.values()]),
      rankTurns: 0,
      brokenTicks: 0,
      isStopping: false,
    };
  }

  /** Notes what was assigned, as soon as the scheduler has said so. */
  #noteAssignments(): void {
    const { assigned } = this.#training;
    for (const { generation, phase } of this.experiments()) {
      if (!("gang" in phase) || assigned.has(generation)) continue;
      assigned.set(generation, new Map(phase.gang.map((worker, rank) => [rank, worker])));
    }
  }
}
