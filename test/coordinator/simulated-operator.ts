/** What operators do to a simulated fleet. */

import { type Experiment, isFinished } from "../../coordinator/experiment/experiment.ts";
import type { Scheduler } from "../../coordinator/scheduling/scheduler.ts";
import type { Prng } from "../support/prng.ts";

/** Does something that the rules allow to one of the experiments, or to a worker; or nothing. */
export function operateAtWhim(scheduler: Scheduler, prng: Prng): void {
  const experiments = scheduler.experiments();
  const chosen = experiments[prng.int(0, experiments.length - 1)];
  if (!chosen) return;
  const { id: experimentId, phase } = chosen;
  if (canRetry(chosen)) scheduler.dispatch({ type: "retry", experimentId });
  else if (phase.status === "paused") scheduler.dispatch({ type: "resume", experimentId });
  else if (!isFinished(chosen)) {
    const whim = prng.int(0, 9);
    if (whim < 2) scheduler.dispatch({ type: "cancel", experimentId });
    else if (whim < 4) drainOne(scheduler, prng);
    else if (whim < 6 && phase.status !== "stopping") {
      scheduler.dispatch({ type: "pause", experimentId });
    }
  }
}

/** Puts failed and cancelled experiments back in the queue. */
export function retryAll(scheduler: Scheduler): void {
  for (const experiment of scheduler.experiments().filter(canRetry)) {
    scheduler.dispatch({ type: "retry", experimentId: experiment.id });
  }
}

export function resumeAll(scheduler: Scheduler): void {
  for (const { id, phase } of scheduler.experiments()) {
    if (phase.status === "paused") scheduler.dispatch({ type: "resume", experimentId: id });
  }
}

function drainOne(scheduler: Scheduler, prng: Prng): void {
  const living = scheduler.members().filter(({ status }) => status !== "lost");
  const member = living[prng.int(0, Math.max(0, living.length - 1))];
  if (member) scheduler.dispatch({ type: "drain-worker", worker: member.facts.id });
}

function canRetry({ phase }: Experiment): boolean {
  return phase.status === "failed" || phase.status === "cancelled";
}
