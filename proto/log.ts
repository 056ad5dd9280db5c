/** The log of a process: JSON lines on standard error, so that standard output stays free. */

import { type Logger, pino, stdTimeFunctions } from "pino";

export type Log = Logger;

/**
 * Opens the log. Child loggers carry `experiment`, `generation`, `rank` and `step`.
 *
 * @param options.level "trace" to "fatal", or "silent"
 * @param options.process name of the process in every line, e.g. "coordinator"
 */
export function openLog(options: { readonly level: string; readonly process: string }): Log {
  return pino(
    {
      level: options.level,
      base: { process: options.process },
      timestamp: stdTimeFunctions.isoTime,
    },
    pino.destination({ dest: 2, sync: true }),
  );
}
