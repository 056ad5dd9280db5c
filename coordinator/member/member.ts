/**
 * The life of one worker as the coordinator sees it.
 *
 *                 assign                drained
 *   join ---> idle -----------> busy -------------> idle
 *               |                |  ^
 *               | disconnected,  |  | join (reconnected within its lease)
 *               | lease expired  |--+
 *               v                | lease expired
 *             lost <-------------+
 *
 * A heartbeat extends the lease. A busy worker whose connection broke keeps its lease, since it
 * goes on training: it has until the lease ends to come back. An idle one has nothing to come back
 * to. Lost is final; a worker that was lost and is heard of again joins anew.
 *
 * A member that drains is assigned nothing any more, and leaves the fleet once it is idle.
 *
 * Pure: no clock, no I/O. `now` is a reading of a monotonic clock in ms.
 */

import assert from "node:assert/strict";
import type { StageName } from "../../proto/recipe.ts";
import type { Dedication } from "./dedication.ts";

/** What a worker says of itself when it joins. */
export interface WorkerFacts {
  /** Chosen by the worker process at its start: a restarted worker is another one. */
  readonly id: string;
  /** For people. */
  readonly name: string;
  /** HOST:PORT at which its peers reach it. */
  readonly peerAddress: string;
  /** e.g. "tfjs:wasm"; a gang is of one engine. */
  readonly engine: string;
  readonly device: string;
  readonly threads: number;
  readonly softwareVersion: string;
  /** When it was welcomed first, by this coordinator or by one before; by the own clock. */
  readonly sinceUnixMs: number;
  /** Absent when it takes any work. */
  readonly dedication?: Dedication;
}

/** A worker's place in a gang. */
export interface Assignment {
  readonly experimentId: string;
  readonly stage: StageName;
  readonly generation: number;
  /** Absent for a generation that only the worker still knows of. */
  readonly rank?: number;
}

/** Why a worker is assigned nothing any more. */
export interface Draining {
  /**
   * A worker that was told to leave by its machine leaves by itself; others are sent away, by an
   * operator's will or since what they are dedicated to is over.
   */
  readonly by: "operator" | "coordinator" | "worker";
  readonly because: string;
}

/** Where a rank's time goes, as `RankTimes` in coordinator.proto. */
export interface RankTimes {
  readonly ownStepSeconds: number;
  readonly dataSeconds: number;
}

interface Known {
  readonly facts: WorkerFacts;
  readonly heardMs: number;
  /** Last step that it reported, 0 while idle. */
  readonly step: number;
  readonly rssBytes: number;
  /** Absent until it has finished a step of what it holds. */
  readonly times?: RankTimes;
  readonly draining?: Draining;
}

export type Member =
  /** Connected and free: the planner may take it. */
  | (Known & { readonly status: "idle"; readonly leaseEndMs: number })
  /** Holds a generation: never handed out until it has left it. */
  | (Known & {
      readonly status: "busy";
      readonly leaseEndMs: number;
      readonly assignment: Assignment;
      readonly assignedMs: number;
      readonly isConnected: boolean;
    })
  /** Gone. */
  | (Known & { readonly status: "lost"; readonly lostMs: number });

export type MemberEvent =
  /** It joined or came back; `facts` may have changed, its address for one. */
  | { readonly type: "joined"; readonly facts: WorkerFacts }
  | {
      readonly type: "heartbeat";
      readonly step: number;
      readonly rssBytes: number;
      readonly times?: RankTimes;
    }
  | { readonly type: "assign"; readonly assignment: Assignment }
  | { readonly type: "drained"; readonly generation: number }
  | { readonly type: "disconnected" }
  /** It is to leave the fleet as soon as it holds nothing. */
  | { readonly type: "draining"; readonly draining: Draining }
  /** The coordinator was not listening for a while, which is not the worker's fault. */
  | { readonly type: "reprieved" }
  /** It did not do in time what it was told. */
  | { readonly type: "evicted"; readonly because: string }
  | { readonly type: "tick" };

type MemberEffect =
  /** The worker is gone, and with it whatever it had of this generation. */
  | { readonly type: "lost"; readonly assignment: Assignment; readonly because: string }
  /** The worker holds nothing and is to leave. */
  | { readonly type: "dismiss"; readonly because: string };

export interface MemberStep {
  readonly member: Member;
  readonly effects: readonly MemberEffect[];
}

/** A worker that has just joined and holds nothing. */
export function idleMember(facts: WorkerFacts, leaseMs: number, now: number): Idle {
  const leaseEndMs = now + leaseMs;
  return { status: "idle", facts, heardMs: now, step: 0, rssBytes: 0, leaseEndMs };
}

/** A worker that holds `assignment` already, and has a lease to show itself. */
export function busyMember(
  facts: WorkerFacts,
  assignment: Assignment,
  leaseMs: number,
  now: number,
): Member {
  const idle = idleMember(facts, leaseMs, now);
  return { ...idle, status: "busy", assignment, assignedMs: now, isConnected: false };
}

/** Applies one event. Late and repeated events change nothing; impossible ones fail an assert. */
export function step(member: Member, event: MemberEvent, leaseMs: number, now: number): MemberStep {
  if (member.status === "lost") return stay(member);

  switch (event.type) {
    case "joined": {
      const leaseEndMs = now + leaseMs;
      const known = { facts: event.facts, heardMs: now, leaseEndMs };
      if (member.status === "idle") return free({ ...member, ...known });
      return stay({ ...member, ...known, isConnected: true });
    }

    case "heartbeat": {
      const { times: _, ...rest } = member;
      const { step, rssBytes, times } = event;
      const said = { heardMs: now, leaseEndMs: now + leaseMs, step, rssBytes };
      return stay({ ...rest, ...said, ...(times ? { times } : {}) });
    }

    case "assign":
      assert.equal(member.status, "idle", `${member.facts.id} assigned while ${member.status}`);
      assert.equal(member.draining, undefined, `${member.facts.id} assigned while it drains`);
      return stay({
        ...member,
        status: "busy",
        assignment: event.assignment,
        assignedMs: now,
        isConnected: true,
      });

    case "drained":
      return drained(member, event.generation, now);

    case "disconnected":
      if (member.status === "idle") return lose(member, "its connection closed", now);
      return stay({ ...member, isConnected: false });

    case "draining": {
      // The worker's own word counts: it leaves by itself, with its own exit status.
      const isKnown = member.draining !== undefined && event.draining.by !== "worker";
      if (isKnown) return stay(member);
      const next = { ...member, draining: event.draining };
      return next.status === "idle" ? free(next) : stay(next);
    }

    case "reprieved":
      return stay({ ...member, leaseEndMs: Math.max(member.leaseEndMs, now + leaseMs) });

    case "evicted":
      return lose(member, event.because, now);

    case "tick":
      if (now < member.leaseEndMs) return stay(member);
      return lose(member, `no heartbeat for ${Math.round(now - member.heardMs)} ms`, now);
  }
}

type Living = Exclude<Member, { status: "lost" }>;
type Idle = Extract<Member, { status: "idle" }>;

function drained(member: Living, generation: number, now: number): MemberStep {
  // A worker may report the end of a generation that was already replaced.
  if (member.status !== "busy" || member.assignment.generation !== generation) return stay(member);
  const { facts, heardMs, rssBytes, leaseEndMs, draining } = member;
  const idle: Idle = {
    ...{ status: "idle", facts, heardMs, step: 0, rssBytes, leaseEndMs },
    ...(draining ? { draining } : {}),
  };
  // Only a connected worker can be assigned anything.
  return member.isConnected ? free(idle) : lose(idle, "its connection closed", now);
}

/** A worker that holds nothing: one that is to leave can do so now. */
function free(member: Idle): MemberStep {
  const { draining } = member;
  const isSentAway = draining !== undefined && draining.by !== "worker";
  return {
    member,
    effects: isSentAway ? [{ type: "dismiss", because: draining.because }] : [],
  };
}

function lose(member: Living, because: string, now: number): MemberStep {
  const { facts, heardMs, step, rssBytes } = member;
  const lost: Member = { status: "lost", facts, heardMs, step, rssBytes, lostMs: now };
  if (member.status === "idle") return stay(lost);
  return { member: lost, effects: [{ type: "lost", assignment: member.assignment, because }] };
}

function stay(member: Member): MemberStep {
  return { member, effects: [] };
}
