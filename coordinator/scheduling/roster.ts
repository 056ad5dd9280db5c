/** The workers that the coordinator knows, with their connections. Shell of member/member.ts. */

import assert from "node:assert/strict";
import { FleetError } from "../../proto/errors.ts";
import type { Log } from "../../proto/log.ts";
import type { Candidate } from "../gang/worker-pool.ts";
import {
  type Assignment,
  busyMember,
  idleMember,
  type Member,
  type MemberEvent,
  step,
  type WorkerFacts,
} from "../member/member.ts";
import type { CoordinatorSays, Running, Session } from "./scheduler-events.ts";

/** People see a lost worker in the list for this long. */
const LOST_KEPT_MS = 600_000;
/** And so many of them, the newest. */
const LOST_KEPT_MAX = 1_000;

/** Called when a worker is gone, and with it what it had of `assignment`. */
export type OnLost = (worker: string, assignment: Assignment, because: string) => void;

export class Roster {
  readonly #members = new Map<string, Member>();
  readonly #sessions = new Map<string, Session>();
  readonly #leaseMs: number;
  readonly #now: () => number;
  readonly #log: Log;
  readonly #onLost: OnLost;

  constructor(options: {
    readonly leaseMs: number;
    /** Monotonic, ms. */
    readonly now: () => number;
    readonly log: Log;
    readonly onLost: OnLost;
  }) {
    this.#leaseMs = options.leaseMs;
    this.#now = options.now;
    this.#log = options.log;
    this.#onLost = options.onLost;
  }

  members(): readonly Member[] {
    return [...this.#members.values()];
  }

  /** Those that were not lost. */
  living(): readonly Exclude<Member, { status: "lost" }>[] {
    return this.members().filter((member) => member.status !== "lost");
  }

  get(id: string): Member | undefined {
    return this.#members.get(id);
  }

  /** For people. */
  nameOf(id: string): string {
    return this.#members.get(id)?.facts.name ?? id;
  }

  /** Whether `session` is the worker's present one: an older one has nothing to say any more. */
  isPresent(id: string, session: Session): boolean {
    return this.#sessions.get(id) === session;
  }

  sessionCount(): number {
    return this.#sessions.size;
  }

  /** The workers that the planner may count on. */
  candidates(): readonly Candidate[] {
    return this.members().flatMap((member) => {
      const isIdle = member.status === "idle";
      if (!isIdle && !(member.status === "busy" && member.isConnected)) return [];
      if (member.draining) return [];
      const { id, engine, dedication } = member.facts;
      return [{ id, engine, isIdle, ...(dedication ? { dedication } : {}) }];
    });
  }

  /** A new worker, or a known one over a new connection, with what it says to hold. */
  join(facts: WorkerFacts, session: Session, running: Running | undefined): void {
    this.connect(facts.id, session);
    const now = this.#now();
    const draining = this.#members.get(facts.id)?.draining;
    if (running) {
      const { experimentId, stage, generation } = running;
      const assignment: Assignment = { experimentId, stage, generation };
      this.#members.set(facts.id, busyMember(facts, assignment, this.#leaseMs, now));
    } else {
      this.#members.set(facts.id, idleMember(facts, this.#leaseMs, now));
    }
    this.apply(facts.id, { type: "joined", facts });
    // It is the same process, which is still to leave.
    if (draining) this.apply(facts.id, { type: "draining", draining });
  }

  /** A worker that trains already and is expected to show itself within `graceMs`. */
  expect(id: string, assignment: Assignment, graceMs: number): void {
    const facts: WorkerFacts = {
      id,
      name: id,
      peerAddress: "",
      engine: "",
      device: "",
      threads: 0,
      softwareVersion: "",
      sinceUnixMs: 0,
    };
    this.#members.set(id, busyMember(facts, assignment, graceMs, this.#now()));
  }

  /** Replaces the worker's connection; the older one is ended. */
  connect(id: string, session: Session): void {
    const older = this.#sessions.get(id);
    this.#sessions.set(id, session);
    older?.end(new FleetError("STATE_CONFLICT", `${id} has joined over another connection`));
  }

  disconnect(id: string): void {
    this.#sessions.delete(id);
    this.apply(id, { type: "disconnected" });
  }

  send(id: string, message: CoordinatorSays): void {
    this.#sessions.get(id)?.send(message);
  }

  /** Says the same to every connected worker. */
  sendAll(message: CoordinatorSays): void {
    for (const session of this.#sessions.values()) session.send(message);
  }

  apply(id: string, event: MemberEvent): void {
    const before = this.#members.get(id);
    assert.ok(before, `${id} is not a member`);
    const { member, effects } = step(before, event, this.#leaseMs, this.#now());
    this.#members.set(id, member);
    if (member.status !== before.status) {
      const fields = {
        worker: id,
        name: member.facts.name,
        from: before.status,
        to: member.status,
      };
      this.#log.debug({ event: "worker", ...fields, because: event.type });
    }
    if (member.status === "lost" && before.status !== "lost") this.#lost(id, member);
    for (const effect of effects) {
      if (effect.type === "lost") this.#onLost(id, effect.assignment, effect.because);
      else this.send(id, effect);
    }
  }

  /** Ends leases that have run out, and forgets those that were lost long ago. */
  tick(): void {
    const now = this.#now();
    for (const [id, member] of this.#members) {
      this.apply(id, { type: "tick" });
      if (member.status === "lost" && now - member.lostMs > LOST_KEPT_MS) this.#members.delete(id);
    }
    const lost = this.members().filter((member) => member.status === "lost");
    const tooMany = lost.toSorted((a, b) => b.lostMs - a.lostMs).slice(LOST_KEPT_MAX);
    for (const { facts } of tooMany) this.#members.delete(facts.id);
  }

  #lost(id: string, member: Member): void {
    const { name } = member.facts;
    this.#log.warn({ event: "worker lost", worker: id, name });
    const session = this.#sessions.get(id);
    this.#sessions.delete(id);
    session?.end(new FleetError("GENERATION_ABORTED", `${id} missed its lease; it may join again`));
  }
}
