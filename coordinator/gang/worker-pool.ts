/** The workers of one engine, and how a gang is picked from those of them that are idle. Pure. */

/** A connected worker that may be given work. */
export interface Candidate {
  readonly id: string;
  readonly engine: string;
  readonly isIdle: boolean;
}

export interface WorkerPool {
  readonly engine: string;
  /** Everybody, busy ones too. */
  readonly connected: ReadonlySet<string>;
  /** Not taken by an experiment that goes first. */
  readonly idle: Set<string>;
  /** Those that their peers could not reach a moment ago: taken when nobody else will do. */
  readonly suspects: ReadonlySet<string>;
  /** The experiment that the idle workers are kept for. */
  reservedFor?: string;
}

/** One pool for each engine, in the order of their names. */
export function toPools(
  fleet: readonly Candidate[],
  suspects: ReadonlySet<string>,
): readonly WorkerPool[] {
  const engines = [...new Set(fleet.map((worker) => worker.engine))].toSorted(byCodeUnit);
  return engines.map((engine) => {
    const members = fleet.filter((worker) => worker.engine === engine);
    const idsOf = (some: readonly Candidate[]): Set<string> => new Set(some.map(({ id }) => id));
    return {
      engine,
      connected: idsOf(members),
      idle: idsOf(members.filter((worker) => worker.isIdle)),
      suspects: idsOf(members.filter((worker) => suspects.has(worker.id))),
    };
  });
}

/** The idle workers that nothing is held against, by id. */
export function trustedIdle({ idle, suspects }: WorkerPool): readonly string[] {
  return [...idle].filter((id) => !suspects.has(id)).toSorted(byCodeUnit);
}

/**
 * The idle workers that a gang of `least` or more may be made of, the best first: those of its last
 * gang, in their old order, then by id. Suspects come in, at the end, when there are not `least`
 * others.
 */
export function usableIdle(
  pool: WorkerPool,
  least: number,
  lastGang: readonly string[],
): readonly string[] {
  const place = (id: string): number => {
    const rank = lastGang.indexOf(id);
    return rank < 0 ? lastGang.length : rank;
  };
  const inOrder = (ids: readonly string[]): string[] =>
    ids.toSorted((a, b) => place(a) - place(b) || byCodeUnit(a, b));
  const trusted = inOrder(trustedIdle(pool));
  if (trusted.length >= least) return trusted;
  return [...trusted, ...inOrder([...pool.idle].filter((id) => pool.suspects.has(id)))];
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
