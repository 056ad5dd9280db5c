/** Requests and fleets to plan for, and what the planner says. */

import {
  type GangPlan,
  type GangRequest,
  type PlanInput,
  planGangs,
} from "../../coordinator/gang/plan-gangs.ts";
import type { Candidate } from "../../coordinator/gang/worker-pool.ts";

export const WAIT_MS = 30_000;
export const GROWTH_DELAY_MS = 10_000;

/** `sizes` are the world sizes that it may have, largest first. */
export function request(
  experimentId: string,
  sizes: number | readonly number[],
  more: Partial<GangRequest> = {},
): GangRequest {
  const all = typeof sizes === "number" ? [sizes] : sizes;
  return {
    experimentId,
    stage: "pretrain",
    sizes: all,
    enough: all[0] ?? 0,
    waitMs: WAIT_MS,
    priority: 0,
    submittedUnixMs: 0,
    isHandedOver: true,
    lastGang: [],
    isRunning: false,
    ...more,
  };
}

/** Plans as if for the first time, unless `more` says otherwise. */
export function plan(
  requests: readonly GangRequest[],
  workers: readonly Candidate[],
  more: Partial<PlanInput> = {},
): readonly GangPlan[] {
  return planGangs({
    requests,
    fleet: workers,
    suspects: new Set(),
    before: [],
    nowMs: 0,
    growthDelayMs: GROWTH_DELAY_MS,
    ...more,
  });
}

/** `idle` free workers and `busy` others, of one engine. */
export function fleet(idle: number, busy = 0, engine = "wasm"): Candidate[] {
  return Array.from({ length: idle + busy }, (_, index) => ({
    id: `${engine}${String(index).padStart(2, "0")}`,
    engine,
    isIdle: index < idle,
  }));
}

export function gangs(plans: readonly GangPlan[]): Record<string, readonly string[]> {
  return Object.fromEntries(
    plans.flatMap((plan) => (plan.type === "start" ? [[plan.experimentId, plan.gang]] : [])),
  );
}

export function reason(plans: readonly GangPlan[], experimentId: string): string {
  const plan = plans.find((one) => one.experimentId === experimentId);
  return plan?.type === "wait" ? plan.reason : "it starts";
}
