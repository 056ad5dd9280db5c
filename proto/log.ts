/**
 * The log of a process, on standard error, so that standard output stays free: JSON lines, or lines
 * for people. It is written at once, so that nothing is missing however the process ends.
 *
 * `event` says what happened, in constant words; everything else has fields of its own. What is
 * about an experiment carries `experiment`, and where it is known `stage`, `generation`, `rank` and
 * `step`: mostly by child loggers.
 */

import { type Logger, pino, stdTimeFunctions } from "pino";

export type Log = Logger;

const STANDARD_ERROR = 2;

export interface LogOptions {
  /** "trace" to "fatal", or "silent". */
  readonly level: string;
  /** Name of the process in every line, e.g. "coordinator". */
  readonly process: string;
  /** Makes of a line of JSON what is written. */
  readonly format?: ((json: string) => string) | undefined;
  /** Gets every line of JSON, too. */
  readonly onLine?: (json: string) => void;
}

export function openLog({ level, process, format, onLine }: LogOptions): Log {
  const destination = pino.destination({ dest: STANDARD_ERROR, sync: true });
  const write = (json: string): void => {
    destination.write(format ? format(json) : json);
    onLine?.(json);
  };
  return pino(
    {
      level,
      base: { process },
      messageKey: "event",
      formatters: { level: (label) => ({ level: label }) },
      timestamp: stdTimeFunctions.isoTime,
    },
    { write },
  );
}
