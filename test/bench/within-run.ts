/** The end that every run has. */

import { FleetError } from "../../proto/errors.ts";

export interface RunOptions {
  /** How long the whole run may take. */
  readonly timeoutMs: number;
  /** Ends the run early. */
  readonly signal: AbortSignal;
}

/**
 * Waits for a run's result, for its deadline or for the signal, whichever comes first.
 *
 * @param whereabouts says how far the run has come
 * @throws {FleetError} UNEXPECTED
 */
export async function withinRun<Result>(
  run: Promise<Result>,
  { timeoutMs, signal }: RunOptions,
  whereabouts: () => string,
): Promise<Result> {
  let timer: NodeJS.Timeout | undefined;
  let stop = (): void => {};
  const ended = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      const text = `not finished after ${timeoutMs / 1000} s: ${whereabouts()}`;
      reject(new FleetError("UNEXPECTED", text));
    }, timeoutMs);
    stop = () => reject(FleetError.from(signal.reason));
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
  });
  // The loser of the race may reject when the winner has been dealt with.
  run.catch(() => {});
  try {
    return await Promise.race([run, ended]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", stop);
  }
}
