/** Why an experiment does not start, for people. Pure. */

import { nameDedication } from "../member/dedication.ts";
import type { GangRequest } from "./plan-gangs.ts";
import type { PoolView } from "./worker-pool.ts";

/** A reason that changed every second would fill logs. */
const COUNTDOWN_STEP_S = 5;

/** There are too few workers for any size. */
export function explain({ sizes }: GangRequest, views: readonly PoolView[]): string {
  const most = sizes[0] ?? 0;
  const least = sizes.at(-1) ?? most;
  const range = least < most ? `${least} to ${workers(most)}` : workers(most);
  const ofOneEngine = peopled(views).length > 1 && most > 1 ? " of one engine" : "";
  return `waits for ${range}${ofOneEngine}: ${tallies(views)}`;
}

/** There are workers for `size`, and for `remainingMs` more are waited for. */
export function countdown(
  remainingMs: number,
  { enough, waitMs, size }: Pick<GangRequest, "enough" | "waitMs"> & { readonly size: number },
  views: readonly PoolView[],
): string {
  const rounded = COUNTDOWN_STEP_S * Math.ceil(remainingMs / 1_000 / COUNTDOWN_STEP_S);
  const seconds = Math.min(rounded, Math.ceil(waitMs / 1_000));
  return (
    `waits up to ${seconds} s more for ${workers(enough)} before it goes on with ${size}: ` +
    tallies(views)
  );
}

function tallies(views: readonly PoolView[]): string {
  const able = peopled(views);
  const there = able.map((view) => tally(view, able.length > 1));
  const elsewhere = views.flatMap((view) => view.elsewhere);
  const tallied = there.length === 0 ? "none is connected" : there.join(", ");
  if (elsewhere.length === 0) return tallied;
  const names = new Set(elsewhere.map(nameDedication));
  const [name] = names;
  const others = there.length === 0 ? elsewhere.length : `${elsewhere.length} more`;
  const are = elsewhere.length === 1 ? "is" : "are";
  return `${tallied}; ${others} ${are} dedicated to ${names.size === 1 ? name : "other work"}`;
}

function tally(view: PoolView, isNamed: boolean): string {
  const { engine, connected, suspects } = view;
  const name = isNamed ? `${engine} ` : "";
  const doubtful = suspects.size > 0 ? ` (${suspects.size} out of its peers' reach)` : "";
  const idle = view.idle.size + view.kept.length;
  return `${name}${idle} idle of ${connected.size} connected${keptOf(view)}${doubtful}`;
}

function keptOf({ pool, idle, kept }: PoolView): string {
  const [first] = kept;
  if (first === undefined) return "";
  const count = idle.size === 0 ? "" : `${kept.length} `;
  return ` (${count}kept for ${pool.kept.get(first)})`;
}

function peopled(views: readonly PoolView[]): readonly PoolView[] {
  return views.filter(({ connected }) => connected.size > 0);
}

function workers(count: number): string {
  return `${count} ${count === 1 ? "worker" : "workers"}`;
}
