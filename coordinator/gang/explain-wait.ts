/** Why an experiment does not start, for people. Pure. */

import type { GangRequest } from "./plan-gangs.ts";
import type { WorkerPool } from "./worker-pool.ts";

/** A reason that changed every second would fill logs. */
const COUNTDOWN_STEP_S = 5;

/** There are too few workers for any size. */
export function explain({ sizes }: GangRequest, pools: readonly WorkerPool[]): string {
  const most = sizes[0] ?? 0;
  const least = sizes.at(-1) ?? most;
  const range = least < most ? `${least} to ${workers(most)}` : workers(most);
  const ofOneEngine = pools.length > 1 && most > 1 ? " of one engine" : "";
  return pools.length === 0
    ? `waits for ${range}: none is connected`
    : `waits for ${range}${ofOneEngine}: ${tallies(pools)}`;
}

/** There are workers for `size`, and for `remainingMs` more are waited for. */
export function countdown(
  remainingMs: number,
  { enough, waitMs, size }: Pick<GangRequest, "enough" | "waitMs"> & { readonly size: number },
  pools: readonly WorkerPool[],
): string {
  const rounded = COUNTDOWN_STEP_S * Math.ceil(remainingMs / 1_000 / COUNTDOWN_STEP_S);
  const seconds = Math.min(rounded, Math.ceil(waitMs / 1_000));
  return (
    `waits up to ${seconds} s more for ${workers(enough)} before it goes on with ${size}: ` +
    tallies(pools)
  );
}

function tallies(pools: readonly WorkerPool[]): string {
  return pools.map((pool) => tally(pool, pools.length > 1)).join(", ");
}

function tally(pool: WorkerPool, isNamed: boolean): string {
  const { engine, idle, connected, suspects, reservedFor } = pool;
  const name = isNamed ? `${engine} ` : "";
  const kept = reservedFor !== undefined && idle.size > 0 ? ` (kept for ${reservedFor})` : "";
  const doubtful = suspects.size > 0 ? ` (${suspects.size} out of its peers' reach)` : "";
  return `${name}${idle.size} idle of ${connected.size} connected${kept}${doubtful}`;
}

function workers(count: number): string {
  return `${count} ${count === 1 ? "worker" : "workers"}`;
}
