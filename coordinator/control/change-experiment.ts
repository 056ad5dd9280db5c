/** What operators do to an experiment, whichever way they ask for it. */

import type { OperatorVerb } from "../experiment/experiment.ts";
import type { Scheduler } from "../scheduling/scheduler.ts";
import type { Store } from "../store/store.ts";

export interface ChangeMeans {
  readonly scheduler: Pick<Scheduler, "dispatch">;
  readonly store: Pick<Store, "flush">;
}

/**
 * Resolves when the change is durable.
 *
 * @throws {FleetError} NOT_FOUND, STATE_CONFLICT, REDIS_UNREACHABLE, LEADERSHIP_LOST
 */
export async function changeExperiment(
  verb: OperatorVerb,
  experimentId: string,
  { scheduler, store }: ChangeMeans,
): Promise<void> {
  scheduler.dispatch({ type: verb, experimentId });
  await store.flush();
}
