/**
 * Sends the lines of this worker's log that are about an experiment to the coordinator, a batch at
 * a time. While the coordinator is away or does not keep up they wait, the oldest are given up for
 * newer ones, and their number is sent along. Nothing waits for a line.
 *
 * What a call that breaks has delivered is not known, and is not sent again: a line may be lost
 * then, and none comes twice.
 */

import type { LogLine, LogLines } from "../../proto/gen/coordinator.ts";
import { LOG_LINES_MAX } from "../../proto/limits.ts";
import type { ExperimentLine } from "../../proto/log-tap.ts";
import { toWireStage } from "../../proto/wire-stages.ts";

/** Lines that wait. */
const WAITING_MAX = 1_000;
/** From a line to its batch, and between two tries. */
const BATCH_MS = 500;
/** Between two batches when more lines wait: half as often as the coordinator allows. */
const NEXT_MS = 100;

export class LogShipper {
  readonly #send: (lines: LogLines) => boolean;
  readonly #waiting: LogLine[] = [];
  #dropped = 0;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  /** @param send gives false when nothing was sent, because it cannot be now */
  constructor(send: (lines: LogLines) => boolean) {
    this.#send = send;
  }

  take({ experimentId, record }: ExperimentLine): void {
    if (this.#isClosed) return;
    const { stage, rank, step, ...rest } = record;
    const line = { ...rest, experimentId, stage: toWireStage(stage), rank, step, cursor: "" };
    this.#waiting.push(line);
    if (this.#waiting.length > WAITING_MAX) {
      this.#waiting.shift();
      this.#dropped += 1;
    }
    this.#timer ??= setTimeout(() => this.#sendSome(), BATCH_MS);
  }

  /** Sends everything at once, before something that is to come after it. */
  flush(): void {
    while (this.#waiting.length > 0 && this.#sendBatch());
  }

  /** Sends what there is. */
  close(): void {
    this.flush();
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  #sendSome(): void {
    const isSent = this.#sendBatch();
    const isMore = this.#waiting.length > 0;
    const pauseMs = isSent ? NEXT_MS : BATCH_MS;
    this.#timer = isMore ? setTimeout(() => this.#sendSome(), pauseMs) : undefined;
  }

  #sendBatch(): boolean {
    const lines = this.#waiting.slice(0, LOG_LINES_MAX);
    if (lines.length === 0) return true;
    if (!this.#send({ lines, dropped: this.#dropped })) return false;
    this.#waiting.splice(0, lines.length);
    this.#dropped = 0;
    return true;
  }
}
