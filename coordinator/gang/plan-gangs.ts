/**
 * Decides which waiting experiments start now, with which workers, and why the others wait. Pure.
 */

/** An experiment that could start. */
export interface GangRequest {
  readonly experimentId: string;
  /** World size. */
  readonly workers: number;
  /** Higher goes first. */
  readonly priority: number;
  readonly submittedUnixMs: number;
  /**
   * Whether the queue has let its stage go. Until then it holds its place and cannot start: between
   * two stages a lower priority must not slip in.
   */
  readonly isHandedOver: boolean;
  /** Workers of its last gang in rank order: their caches are warm, so they are taken first. */
  readonly preferred: readonly string[];
}

/** A connected worker. */
export interface Candidate {
  readonly id: string;
  readonly engine: string;
  readonly isIdle: boolean;
}

export type GangPlan =
  /** `gang` is in rank order. */
  | { readonly type: "start"; readonly experimentId: string; readonly gang: readonly string[] }
  | { readonly type: "wait"; readonly experimentId: string; readonly reason: string };

interface Pool {
  readonly engine: string;
  readonly connected: number;
  /** Not taken by an experiment that goes first. */
  readonly idle: string[];
  /** The experiment that the idle workers are kept for. */
  reservedFor?: string;
}

/**
 * Plans in order of priority, then of submission. Three rules:
 *
 * - All or nothing: a gang gets all its workers or none, so that two half-formed gangs can never
 *   hold each other's workers.
 * - A gang is of one engine: different arithmetic on different ranks would tear their replicas
 *   apart, which have to stay bit-identical.
 * - An experiment for which the fleet is large enough, but too busy, keeps idle workers for itself;
 *   smaller ones behind it would starve it otherwise. One that the fleet is too small for keeps
 *   nothing: nobody knows when it could start.
 *
 * Equal inputs give equal plans: ids are compared by code unit.
 */
export function planGangs(
  requests: readonly GangRequest[],
  fleet: readonly Candidate[],
): readonly GangPlan[] {
  const pools = toPools(fleet);
  return requests.toSorted(byTurn).map((request) => planGang(request, pools));
}

function planGang(request: GangRequest, pools: readonly Pool[]): GangPlan {
  const { experimentId, workers } = request;
  const warm = (pool: Pool): number =>
    pool.idle.filter((id) => request.preferred.includes(id)).length;
  const open = pools.filter((pool) => pool.reservedFor === undefined);

  // Warm workers first; then the smallest pool that will do, which leaves the large ones whole.
  const [fitting] = open
    .filter((pool) => pool.idle.length >= workers)
    .toSorted((a, b) => warm(b) - warm(a) || a.idle.length - b.idle.length || byEngine(a, b));
  if (fitting) {
    const gang = rankOrder(fitting.idle, request.preferred).slice(0, workers);
    for (const id of gang) fitting.idle.splice(fitting.idle.indexOf(id), 1);
    if (!request.isHandedOver) {
      return { type: "wait", experimentId, reason: "waits for the queue to hand its stage over" };
    }
    return { type: "start", experimentId, gang };
  }

  const reason = explain(request, pools);
  const [large] = open
    .filter((pool) => pool.connected >= workers)
    .toSorted((a, b) => b.idle.length - a.idle.length || byEngine(a, b));
  if (large) large.reservedFor = experimentId;
  return { type: "wait", experimentId, reason };
}

function explain({ workers }: GangRequest, pools: readonly Pool[]): string {
  const needed = `waits for ${workers} ${workers === 1 ? "worker" : "workers"}`;
  if (pools.length === 0) return `${needed}: none is connected`;

  const tallies = pools.map((pool) => {
    const engine = pools.length > 1 ? `${pool.engine} ` : "";
    const isKept = pool.reservedFor !== undefined && pool.idle.length > 0;
    const kept = isKept ? ` (kept for ${pool.reservedFor})` : "";
    return `${engine}${pool.idle.length} idle of ${pool.connected} connected${kept}`;
  });
  const ofOneEngine = pools.length > 1 && workers > 1 ? " of one engine" : "";
  return `${needed}${ofOneEngine}: ${tallies.join(", ")}`;
}

function toPools(fleet: readonly Candidate[]): Pool[] {
  const engines = [...new Set(fleet.map((worker) => worker.engine))].toSorted(byCodeUnit);
  return engines.map((engine) => {
    const members = fleet.filter((worker) => worker.engine === engine);
    const idle = members.filter((worker) => worker.isIdle).map((worker) => worker.id);
    return { engine, connected: members.length, idle };
  });
}

/** Warm workers in the order of their last ranks, so that rank 0 stays where it was; then by id. */
function rankOrder(ids: readonly string[], preferred: readonly string[]): string[] {
  const place = (id: string): number => {
    const rank = preferred.indexOf(id);
    return rank < 0 ? preferred.length : rank;
  };
  return ids.toSorted((a, b) => place(a) - place(b) || byCodeUnit(a, b));
}

function byTurn(a: GangRequest, b: GangRequest): number {
  return (
    b.priority - a.priority ||
    a.submittedUnixMs - b.submittedUnixMs ||
    byCodeUnit(a.experimentId, b.experimentId)
  );
}

function byEngine(a: Pool, b: Pool): number {
  return byCodeUnit(a.engine, b.engine);
}

function byCodeUnit(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}
