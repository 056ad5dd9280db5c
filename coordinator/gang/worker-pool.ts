/** The workers of one engine, and how a gang is picked from those of them that are idle. Pure. */

import { type Dedication, mayTake, type Work } from "../member/dedication.ts";

/** A connected worker that may be given work. */
export interface Candidate {
  readonly id: string;
  readonly engine: string;
  readonly isIdle: boolean;
  /** Absent when it takes any work. */
  readonly dedication?: Dedication;
}

export interface WorkerPool {
  readonly engine: string;
  /** Everybody, busy ones too. */
  readonly connected: readonly Candidate[];
  /** Neither taken by an experiment that goes first, nor kept for one. */
  readonly idle: Set<string>;
  /** Those that their peers could not reach a moment ago: taken when nobody else will do. */
  readonly suspects: ReadonlySet<string>;
  /** Idle workers that are kept for an experiment, and for which. */
  readonly kept: Map<string, string>;
}

/** What one stage sees of a pool: the workers that may take it. */
export interface PoolView {
  readonly pool: WorkerPool;
  readonly engine: string;
  readonly connected: ReadonlySet<string>;
  readonly idle: ReadonlySet<string>;
  readonly suspects: ReadonlySet<string>;
  /** Idle ones that others keep. */
  readonly kept: readonly string[];
  /** Those that take nothing else. */
  readonly dedicated: ReadonlySet<string>;
  /** What the others are dedicated to. */
  readonly elsewhere: readonly Dedication[];
}

/** One pool for each engine, in the order of their names. */
export function toPools(
  fleet: readonly Candidate[],
  suspects: ReadonlySet<string>,
): readonly WorkerPool[] {
  const engines = [...new Set(fleet.map((worker) => worker.engine))].toSorted(byCodeUnit);
  return engines.map((engine) => {
    const connected = fleet.filter((worker) => worker.engine === engine);
    return {
      engine,
      connected,
      idle: idsOf(connected.filter((worker) => worker.isIdle)),
      suspects: idsOf(connected.filter((worker) => suspects.has(worker.id))),
      kept: new Map(),
    };
  });
}

export function viewFor(work: Work, pool: WorkerPool): PoolView {
  const { engine, idle, kept } = pool;
  const able = pool.connected.filter(({ dedication }) => mayTake(dedication, work));
  const others = pool.connected.filter(({ dedication }) => !mayTake(dedication, work));
  const pick = (isWanted: (id: string) => boolean) =>
    idsOf(able.filter((worker) => isWanted(worker.id)));
  return {
    pool,
    engine,
    connected: idsOf(able),
    idle: pick((id) => idle.has(id)),
    suspects: pick((id) => pool.suspects.has(id)),
    kept: [...pick((id) => kept.has(id))],
    dedicated: idsOf(able.filter(({ dedication }) => dedication !== undefined)),
    elsewhere: others.flatMap(({ dedication }) => dedication ?? []),
  };
}

/** Nobody who comes later in this round may take these workers. */
export function take({ pool }: PoolView, ids: readonly string[]): void {
  for (const id of ids) pool.idle.delete(id);
}

/** Keeps all idle workers of the view for the experiment. */
export function keep({ pool, idle }: PoolView, experimentId: string): void {
  for (const id of idle) {
    pool.idle.delete(id);
    pool.kept.set(id, experimentId);
  }
}

/**
 * The idle workers that nothing is held against: those that take nothing else first, which leaves
 * the others to others; then by id.
 */
export function trustedIdle(view: PoolView): readonly string[] {
  return inOrder(view, ({ idle, suspects }) => [...idle].filter((id) => !suspects.has(id)), []);
}

/**
 * The idle workers that a gang of `least` or more may be made of, the best first: those of its last
 * gang, in their old order, then as {@link trustedIdle}. Suspects come in, at the end, when there
 * are not `least` others.
 */
export function usableIdle(
  view: PoolView,
  least: number,
  lastGang: readonly string[],
): readonly string[] {
  const trusted = inOrder(view, trustedIdle, lastGang);
  if (trusted.length >= least) return trusted;
  const doubtful = ({ idle, suspects }: PoolView): string[] =>
    [...idle].filter((id) => suspects.has(id));
  return [...trusted, ...inOrder(view, doubtful, lastGang)];
}

function inOrder(
  view: PoolView,
  pick: (view: PoolView) => readonly string[],
  lastGang: readonly string[],
): readonly string[] {
  const place = (id: string): number => {
    const rank = lastGang.indexOf(id);
    return rank < 0 ? lastGang.length : rank;
  };
  const isGeneral = (id: string): number => Number(!view.dedicated.has(id));
  return pick(view).toSorted(
    (a, b) => place(a) - place(b) || isGeneral(a) - isGeneral(b) || byCodeUnit(a, b),
  );
}

/**
 * Seats a gang: rank is the index in the result. A gang as large as the last one leaves everybody
 * in his old place, and newcomers take the vacant ones: each rank's share of the data stays where
 * it is cached. In a gang of another size those that were there before come first, in their old
 * order.
 */
export function seated(members: readonly string[], lastGang: readonly string[]): readonly string[] {
  const newcomers = members.filter((id) => !lastGang.includes(id));
  const seats = lastGang.map((id) => (members.includes(id) ? id : undefined));
  const vacant = members.length === lastGang.length ? newcomers.splice(0) : [];
  const taken = seats.flatMap((id) => id ?? vacant.shift() ?? []);
  return [...taken, ...newcomers];
}

export function byCodeUnit(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

function idsOf(workers: readonly Candidate[]): Set<string> {
  return new Set(workers.map(({ id }) => id));
}
