/** Lets somebody have the lines about experiments of a log that was opened before. */

import { type LogRecord, readLogLine } from "./log-line.ts";

export interface ExperimentLine {
  readonly experimentId: string;
  readonly record: LogRecord;
}

export class LogTap {
  #listener: ((line: ExperimentLine) => void) | undefined;

  /** Of those to come. */
  listen(listener: (line: ExperimentLine) => void): void {
    this.#listener = listener;
  }

  /** @param json as the log writes it */
  readonly take = (json: string): void => {
    if (!this.#listener) return;
    const line = readLogLine(json);
    if (line) this.#listener(line);
  };
}
