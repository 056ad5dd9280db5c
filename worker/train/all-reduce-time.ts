/** How much of the all-reduce backward hides. */

import type { AllReduceTime } from "./stage-job.ts";

/**
 * @param seconds of the step during which at least one all-reduce was under way
 * @param exposedSeconds that the engine blocked for them
 * @returns undefined when nothing was reduced
 */
export function allReduceTime(seconds: number, exposedSeconds: number): AllReduceTime | undefined {
  if (seconds <= 0) return undefined;
  // Blocked for longer than they ran: the way between the threads is part of the wait.
  const hidden = Math.max(0, Math.min(1, 1 - exposedSeconds / seconds));
  return { seconds, hidden };
}
