/** Tells a worker that comes back what it may not know: that its generation is over. */

import { holdersOf } from "../experiment/experiment.ts";
import { GIVE_UP } from "../experiment/experiment-stopping.ts";
import type { Ledger } from "./ledger.ts";
import type { Roster } from "./roster.ts";
import type { Running } from "./scheduler-events.ts";

export function abortIfStale(
  worker: string,
  { experimentId, generation }: Running,
  { ledger, roster }: { readonly ledger: Ledger; readonly roster: Roster },
): void {
  const experiment = ledger.find(experimentId);
  const isHeld = experiment?.generation === generation && holdersOf(experiment).has(worker);
  const phase = isHeld ? experiment.phase : undefined;
  if (phase && phase.status !== "stopping") return;
  const because = phase ? phase.because : "this generation was replaced";
  const mode = phase?.mode ?? GIVE_UP;
  roster.send(worker, { type: "abort", experimentId, generation, because, ...mode });
}
