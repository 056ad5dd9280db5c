/**
 * Decides which waiting experiments start now, with which workers, why the others wait, and which
 * running ones should grow. Pure.
 */

import type { Work } from "../member/dedication.ts";
import { countdown, explain } from "./explain-wait.ts";
import {
  byCodeUnit,
  type Candidate,
  keep,
  type PoolView,
  seated,
  take,
  toPools,
  trustedIdle,
  usableIdle,
  viewFor,
  type WorkerPool,
} from "./worker-pool.ts";

/** A stage of an experiment that could start, or grow. */
export interface GangRequest extends Work {
  /** World sizes that it may have, largest first. */
  readonly sizes: readonly number[];
  /** The size from which on it starts at once; it waits before it takes fewer workers. */
  readonly enough: number;
  /** How long it waits for `enough` while there are workers for a smaller size, ms. */
  readonly waitMs: number;
  /** Higher goes first. */
  readonly priority: number;
  readonly submittedUnixMs: number;
  /**
   * Whether the queue has let its stage go. Until then it holds its place and cannot start: between
   * two stages a lower priority must not slip in.
   */
  readonly isHandedOver: boolean;
  /** Workers of its last gang in rank order: their caches are warm, so they are taken first. */
  readonly lastGang: readonly string[];
  /** Whether `lastGang` is at work: it is not to start, but to grow when it can. */
  readonly isRunning: boolean;
}

export type GangPlan =
  /** `gang` is in rank order. */
  | {
      readonly type: "start";
      readonly experimentId: string;
      readonly gang: readonly string[];
      readonly sinceMs: number;
    }
  /** `sinceMs`: since when there have been workers for some gang, if not the largest. */
  | {
      readonly type: "wait";
      readonly experimentId: string;
      readonly reason: string;
      readonly sinceMs?: number;
    }
  /** There are workers enough to grow, which is not done yet. */
  | { readonly type: "could-grow"; readonly experimentId: string; readonly sinceMs: number }
  /** It is to be stopped, so that it starts again with more workers. */
  | { readonly type: "grow"; readonly experimentId: string; readonly reason: string };

export interface PlanInput {
  readonly requests: readonly GangRequest[];
  readonly fleet: readonly Candidate[];
  /** Workers that their peers could not reach a moment ago. */
  readonly suspects: ReadonlySet<string>;
  /** The last result: how long something has been so is counted from there. */
  readonly before: readonly GangPlan[];
  /** By a monotonic clock. */
  readonly nowMs: number;
  /** For so long there have to be workers enough before a gang is stopped to grow. */
  readonly growthDelayMs: number;
}

/**
 * Plans in order of priority; of equal ones, those that wait come before those that could grow, and
 * earlier submissions before later ones. The rules:
 *
 * - All or nothing: a gang gets all its workers or none, so that two half-formed gangs can never
 *   hold each other's workers.
 * - A gang is of one engine: different arithmetic on different ranks would tear their replicas
 *   apart, which have to stay bit-identical.
 * - A worker that is dedicated to some work takes no other, and is not kept from it for another.
 * - A gang is as large as the idle workers allow; smaller than `enough` only after `waitMs`.
 * - An experiment for which the fleet is large enough, but too busy, keeps idle workers for itself;
 *   smaller ones behind it would starve it otherwise. One that the fleet is too small for keeps
 *   nothing: nobody knows when it could start.
 * - One that could grow keeps the workers for that, and grows when it could for `growthDelayMs`.
 * - Suspects are taken when there are not enough others for the smallest gang.
 *
 * Equal inputs give equal plans: ids are compared by code unit.
 */
export function planGangs(input: PlanInput): readonly GangPlan[] {
  const { requests, fleet, suspects } = input;
  const circumstances = { ...input, pools: toPools(fleet, suspects) };
  return requests
    .toSorted(byTurn)
    .flatMap((request) =>
      request.isRunning ? planGrowth(request, circumstances) : planStart(request, circumstances),
    );
}

interface Circumstances extends PlanInput {
  readonly pools: readonly WorkerPool[];
}

function planStart(request: GangRequest, circumstances: Circumstances): GangPlan {
  const { experimentId, enough, lastGang } = request;
  const { nowMs } = circumstances;
  const views = circumstances.pools.map((pool) => viewFor(request, pool));
  const offer = bestOffer(request, views);
  if (!offer) {
    const reason = explain(request, views);
    reserve(request, views);
    return { type: "wait", experimentId, reason };
  }

  const { view, members } = offer;
  const size = members.length;
  const sinceMs = sinceWhen(request, ["wait", "start"], circumstances);
  const waitMs = size < enough ? sinceMs + request.waitMs - nowMs : 0;
  if (waitMs > 0) {
    const reason = countdown(waitMs, { ...request, size }, views);
    keep(view, experimentId);
    return { type: "wait", experimentId, reason, sinceMs };
  }
  const gang = seated(members, lastGang);
  take(view, gang);
  if (request.isHandedOver) return { type: "start", experimentId, gang, sinceMs };
  const reason = "waits for the queue to hand its stage over";
  return { type: "wait", experimentId, reason, sinceMs };
}

interface Offer {
  readonly view: PoolView;
  /** As many as a gang may have. */
  readonly members: readonly string[];
}

/**
 * A gang without suspects before one with some; then one of workers that still hold the state, even
 * if others could make up a larger one, since those would have to begin with a checkpoint; then the
 * largest; and from the smallest pool that will do, which leaves the large ones whole.
 */
function bestOffer(request: GangRequest, views: readonly PoolView[]): Offer | undefined {
  const { sizes, lastGang } = request;
  const warm = ({ members }: Offer): number => members.filter((id) => lastGang.includes(id)).length;
  const suspects = ({ view, members }: Offer): number =>
    members.filter((id) => view.suspects.has(id)).length;
  const offers = views.flatMap((view): Offer[] => {
    const idle = usableIdle(view, leastOf(request), lastGang);
    const size = sizes.find((one) => one <= idle.length);
    return size === undefined ? [] : [{ view, members: idle.slice(0, size) }];
  });
  const [best] = offers.toSorted(
    (a, b) =>
      suspects(a) - suspects(b) ||
      Number(warm(b) > 0) - Number(warm(a) > 0) ||
      b.members.length - a.members.length ||
      warm(b) - warm(a) ||
      a.view.idle.size - b.view.idle.size ||
      byCodeUnit(a.view.engine, b.view.engine),
  );
  return best;
}

function reserve(request: GangRequest, views: readonly PoolView[]): void {
  const [large] = views
    .filter(({ connected }) => connected.size >= leastOf(request))
    .toSorted((a, b) => b.idle.size - a.idle.size || byCodeUnit(a.engine, b.engine));
  if (large) keep(large, request.experimentId);
}

function leastOf({ sizes }: GangRequest): number {
  return sizes.at(-1) ?? Number.POSITIVE_INFINITY;
}

function planGrowth(request: GangRequest, circumstances: Circumstances): readonly GangPlan[] {
  const { experimentId, lastGang: gang } = request;
  const { pools, nowMs, growthDelayMs } = circumstances;
  // A gang of which a member is away, or about to leave, has other worries.
  const views = pools.map((pool) => viewFor(request, pool));
  const view = views.find(({ connected }) => gang.every((id) => connected.has(id)));
  if (!view) return [];
  const free = trustedIdle(view);
  const size = request.sizes.find((one) => one <= gang.length + free.length) ?? 0;
  if (size <= gang.length) return [];

  take(view, free.slice(0, size - gang.length));
  const sinceMs = sinceWhen(request, ["could-grow"], circumstances);
  if (nowMs - sinceMs < growthDelayMs) return [{ type: "could-grow", experimentId, sinceMs }];
  const reason = `grows from ${gang.length} to ${size} workers`;
  return [{ type: "grow", experimentId, reason }];
}

/** Since when its plan has been of these types, with the time written down; now, if it was not. */
function sinceWhen(
  { experimentId }: GangRequest,
  types: readonly GangPlan["type"][],
  { before, nowMs }: Circumstances,
): number {
  const last = before.find((plan) => plan.experimentId === experimentId);
  if (!last || !types.includes(last.type) || !("sinceMs" in last)) return nowMs;
  return last.sinceMs ?? nowMs;
}

function byTurn(a: GangRequest, b: GangRequest): number {
  return (
    b.priority - a.priority ||
    Number(a.isRunning) - Number(b.isRunning) ||
    a.submittedUnixMs - b.submittedUnixMs ||
    byCodeUnit(a.experimentId, b.experimentId)
  );
}
