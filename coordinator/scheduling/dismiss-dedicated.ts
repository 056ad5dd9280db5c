/** Sends those workers away whose work is over. */

import type { Log } from "../../proto/log.ts";
import { whyOver } from "../gang/dedicated-work.ts";
import type { Ledger } from "./ledger.ts";
import type { Roster } from "./roster.ts";

/** Takes the idle ones; those that are busy come later. */
export function dismissDedicated(
  { ledger, roster }: { readonly ledger: Ledger; readonly roster: Roster },
  log: Log,
): void {
  const records = { find: ledger.find.bind(ledger), all: ledger.all.bind(ledger) };
  for (const { status, facts, draining } of roster.living()) {
    if (status !== "idle" || draining) continue;
    const because = whyOver(facts, records);
    if (because === undefined) continue;
    log.info({ event: "worker dismissed", worker: facts.id, name: facts.name, because });
    roster.apply(facts.id, { type: "draining", draining: { by: "coordinator", because } });
  }
}
