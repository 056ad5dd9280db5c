/** Does what the planner has decided. */

import type { GangPlan } from "../gang/plan-gangs.ts";
import type { GenerationNumbers } from "./generation-numbers.ts";
import type { Ledger } from "./ledger.ts";

export function followPlan(
  plan: GangPlan,
  { ledger, generations }: { readonly ledger: Ledger; readonly generations: GenerationNumbers },
): void {
  const { experimentId } = plan;
  switch (plan.type) {
    case "start": {
      const generation = generations.take();
      if (generation === undefined) {
        const reason = "waits for Redis to number its generation";
        ledger.apply(experimentId, { type: "still-waiting", reason });
        return;
      }
      ledger.apply(experimentId, { type: "assigned", generation, gang: plan.gang });
      return;
    }
    case "wait":
      ledger.apply(experimentId, { type: "still-waiting", reason: plan.reason });
      return;
    case "grow": {
      const { generation } = ledger.get(experimentId);
      // The members go on with the state that they hold, and newcomers get it from them.
      const how = { cause: "membership", because: plan.reason, keepCheckpoint: false } as const;
      ledger.apply(experimentId, { type: "reform", generation, ...how });
      return;
    }
    case "could-grow":
      return;
  }
}
