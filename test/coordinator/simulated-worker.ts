/** The workers of a simulated fleet, and what can go wrong with them. */

import type { Dedication } from "../../coordinator/member/dedication.ts";
import type { WorkerFacts } from "../../coordinator/member/member.ts";
import type {
  CoordinatorSays,
  Running,
  Session,
  WorkerSays,
} from "../../coordinator/scheduling/scheduler-events.ts";

type Assignment = Extract<CoordinatorSays, { type: "assignment" }>;

/** What a worker process has in hand, in its own view. */
export interface Holding {
  readonly assignment: Assignment;
  step: number;
  /** How many of the ranks that it stands for have done their part of the step under way. */
  rankTurns: number;
  /** For how long peers have been missing. */
  brokenTicks: number;
  /** It was told to stop after the step. */
  isStopping: boolean;
}

export interface Link extends Session {
  readonly toWorker: CoordinatorSays[];
  readonly toCoordinator: WorkerSays[];
  isOpen: boolean;
}

export interface SimulatedWorker {
  readonly id: string;
  /** Absent when it takes any work. */
  readonly dedication?: Dedication;
  /** When it joined first. */
  readonly sinceMs: number;
  link: Link | undefined;
  holding: Holding | undefined;
  frozenTicks: number;
  /** Heartbeats, but neither trains nor stops any more. */
  isStuck: boolean;
  /** It ends once it holds nothing. */
  isLeaving: boolean;
  /** Said, but perhaps not heard: to be said again over the next connection. */
  outbox: WorkerSays[];
}

export interface Faults {
  readonly crash: number;
  readonly freeze: number;
  readonly disconnect: number;
  readonly stick: number;
  readonly breakUp: number;
  readonly fatal: number;
  /** A worker's machine tells it to leave. */
  readonly preempt: number;
  readonly coordinatorCrash: number;
  readonly operator: number;
  /** Share of a queue's messages that stay in flight for another tick. */
  readonly delay: number;
}

export const CALM: Faults = {
  crash: 0,
  freeze: 0,
  disconnect: 0,
  stick: 0,
  breakUp: 0,
  fatal: 0,
  preempt: 0,
  coordinatorCrash: 0,
  operator: 0,
  delay: 0,
};

/** A connection that keeps what is under way until somebody takes it out. */
export function openLink(): Link {
  const link: Link = {
    toWorker: [],
    toCoordinator: [],
    isOpen: true,
    send: (message) => {
      if (link.isOpen) link.toWorker.push(message);
    },
    end: () => {
      link.isOpen = false;
    },
  };
  return link;
}

/** A worker that has just been started. */
export function newWorker(
  made: Pick<SimulatedWorker, "id" | "sinceMs" | "dedication">,
): SimulatedWorker {
  return {
    ...made,
    link: undefined,
    holding: undefined,
    frozenTicks: 0,
    isStuck: false,
    isLeaving: false,
    outbox: [],
  };
}

export function factsOf({ id, sinceMs, dedication }: SimulatedWorker): WorkerFacts {
  return {
    id,
    name: id,
    peerAddress: `${id}:1`,
    engine: "simulated",
    device: "none",
    threads: 1,
    softwareVersion: "0",
    sinceUnixMs: sinceMs,
    ...(dedication ? { dedication } : {}),
  };
}

export function runningOf({ assignment, step }: Holding): Running {
  const { experimentId, stage, generation } = assignment;
  return { experimentId, stage, generation, step };
}
