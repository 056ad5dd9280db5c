/** Takes a worker out of the fleet without hurting the gang that it is in. */

import { gangOf } from "../experiment/experiment.ts";
import type { Draining } from "../member/member.ts";
import type { Ledger } from "./ledger.ts";
import type { Roster } from "./roster.ts";

/**
 * Marks the worker, so that it is assigned nothing more. Its gang, if it is in one, comes to a step
 * boundary and is formed anew without it; the roster sends it away once it has left.
 */
export function drainWorker(
  worker: string,
  draining: Draining,
  { ledger, roster }: { readonly ledger: Ledger; readonly roster: Roster },
): void {
  roster.apply(worker, { type: "draining", draining });
  const member = roster.get(worker);
  if (member?.status !== "busy") return;

  const { experimentId, generation } = member.assignment;
  const gang = gangOf(ledger.find(experimentId));
  const { name } = member.facts;
  ledger.apply(experimentId, {
    type: "reform",
    generation,
    cause: draining.by === "worker" ? "preemption" : "membership",
    because: `rank ${gang.indexOf(worker)} (worker ${name}) drains: ${draining.because}`,
    // Those who stay hold the state in memory for the next gang.
    keepCheckpoint: gang.every((id) => roster.get(id)?.draining !== undefined),
    drained: worker,
  });
}
