/** Lines of a worker's log: checked, and kept for the experiment that they are about. */

import { z } from "zod";
import { type LogLines, Stage } from "../../proto/gen/coordinator.ts";
import { LOG_DETAILS_LENGTH_MAX, LOG_EVENT_LENGTH_MAX, LOG_LINES_MAX } from "../../proto/limits.ts";
import { LINE_LEVELS, type LogRecord } from "../../proto/log-line.ts";
import { findStage } from "../../proto/wire-stages.ts";
import type { Scheduler } from "../scheduling/scheduler.ts";
import type { LogStore } from "../store/log-store.ts";
import { COUNTER_MAX, check, count, id } from "./worker-message.ts";

const detailsSchema = z
  .string()
  .max(LOG_DETAILS_LENGTH_MAX)
  .refine((json) => json === "" || isObject(json), "must be a JSON object, or empty");

const linesSchema = z.object({
  dropped: count.max(COUNTER_MAX),
  lines: z
    .array(
      z.object({
        unixMs: count,
        level: z.enum(LINE_LEVELS),
        experimentId: id,
        generation: count.max(COUNTER_MAX),
        rank: count.optional(),
        step: count.optional(),
        event: z.string().max(LOG_EVENT_LENGTH_MAX),
        detailsJson: detailsSchema,
      }),
    )
    .max(LOG_LINES_MAX),
});

/**
 * Keeps the lines about experiments that are known.
 *
 * @param workerName of who has sent them, whatever they say
 * @throws {FleetError} USAGE, and then none is kept; NOT_FOUND when others were among them
 */
export function keepLogLines(
  message: LogLines,
  workerName: string,
  { scheduler, logs }: { readonly scheduler: Scheduler; readonly logs: Pick<LogStore, "append"> },
): void {
  const { lines, dropped } = check(linesSchema, message, "log_lines");
  const byExperiment = new Map<string, LogRecord[]>();
  for (const [index, line] of lines.entries()) {
    const { experimentId, rank, step, ...rest } = line;
    const stage = findStage(message.lines[index]?.stage ?? Stage.STAGE_UNSPECIFIED);
    const record = {
      ...rest,
      ...(stage && { stage }),
      ...(rank === undefined ? {} : { rank }),
      ...(step === undefined ? {} : { step }),
      workerName,
    };
    byExperiment.set(experimentId, [...(byExperiment.get(experimentId) ?? []), record]);
  }
  let lost = dropped;
  let unknown: unknown;
  for (const [experimentId, records] of byExperiment) {
    try {
      scheduler.experiment(experimentId);
    } catch (thrown) {
      unknown = thrown;
      continue;
    }
    logs.append(experimentId, records, lost);
    lost = 0;
  }
  if (unknown) throw unknown;
}

function isObject(json: string): boolean {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === "object" && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}
