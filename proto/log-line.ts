/**
 * A line of a log that is about an experiment, as it leaves the process: made of the JSON that the
 * log writes, so that child loggers and their fields count the same for both. Pure.
 */

import { LOG_DETAILS_LENGTH_MAX, LOG_EVENT_LENGTH_MAX } from "./limits.ts";
import type { StageName } from "./recipe.ts";

/** From the least to the most serious. */
export const LINE_LEVELS = ["trace", "debug", "info", "warn", "error", "fatal"] as const;
/** What a log may be set to. */
export const LOG_LEVELS = [...LINE_LEVELS, "silent"] as const;
export type LineLevel = (typeof LINE_LEVELS)[number];

/** A line about an experiment. */
export interface LogRecord {
  readonly unixMs: number;
  readonly level: LineLevel;
  /** Absent when the line is of no stage. */
  readonly stage?: StageName;
  /** 0 when it is of none. */
  readonly generation: number;
  /** Absent when it is of no rank. */
  readonly rank?: number;
  readonly step?: number;
  readonly event: string;
  /** Everything else, as a JSON object; empty when there is nothing. */
  readonly detailsJson: string;
  /** Empty when the coordinator says it. */
  readonly workerName: string;
}

/** What the log's JSON says, or undefined when it is about no experiment. */
export function readLogLine(
  json: string,
): { readonly experimentId: string; readonly record: LogRecord } | undefined {
  const { experiment, time, level, stage, generation, rank, step, event, ...rest } = JSON.parse(
    json,
  ) as Readonly<Record<string, unknown>>;
  if (typeof experiment !== "string") return undefined;
  const { process: _, ...details } = rest;
  const record = {
    unixMs: Date.parse(String(time)),
    level: LINE_LEVELS.find((name) => name === level) ?? "info",
    ...(isStage(stage) ? { stage } : {}),
    generation: isCount(generation) ? generation : 0,
    ...(isCount(rank) ? { rank } : {}),
    ...(isCount(step) ? { step } : {}),
    event: String(event).slice(0, LOG_EVENT_LENGTH_MAX),
    detailsJson: detailsJson(details),
    workerName: "",
  };
  return { experimentId: experiment, record };
}

function isStage(value: unknown): value is StageName {
  return value === "pretrain" || value === "linear";
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}

/** What is too long stays readable, as the beginning of its text. */
function detailsJson(details: object): string {
  if (Object.keys(details).length === 0) return "";
  const json = JSON.stringify(details);
  if (json.length <= LOG_DETAILS_LENGTH_MAX) return json;
  // A character takes two, or six, when its text is quoted once more.
  return JSON.stringify({ cut: json.slice(0, LOG_DETAILS_LENGTH_MAX / 8) });
}
