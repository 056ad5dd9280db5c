/** GET /api/experiments/ID/logs: a page of an experiment's log, and of what came after one. */

import type { RequestHandler } from "express";
import { z } from "zod";
import { FleetError } from "../../proto/errors.ts";
import { LINE_LEVELS } from "../../proto/log-line.ts";
import type { KeptLine, LogStore } from "../store/log-store.ts";
import type { FleetSource } from "./fleet-view.ts";

const LINES_MAX = 1_000;

/** Lines, oldest first. */
export interface LogView {
  readonly lines: readonly KeptLine[];
  /** Lines before or between these that are not kept. */
  readonly dropped: number;
}

const number = z
  .string()
  .regex(/^\d{1,15}$/, "must be a whole number")
  .transform(Number);
const querySchema = z.strictObject({
  rank: number.optional(),
  level: z.enum(LINE_LEVELS, `must be one of ${LINE_LEVELS.join(", ")}`).optional(),
  /** The newest so many. */
  last: number.pipe(z.int().min(1).max(LINES_MAX)).optional(),
  /** Those that follow the line of this number. */
  after: number.optional(),
});

/** Without `last` and `after` it gives the newest lines. */
export function readLogs(
  source: Pick<FleetSource, "experiment">,
  logs: Pick<LogStore, "pages">,
): RequestHandler<{ readonly id: string }> {
  return async ({ params, query }, response) => {
    const { id: experimentId } = source.experiment(params.id);
    const { rank, level, last, after } = parse(query);
    const place = after === undefined ? { last: last ?? LINES_MAX } : { after };
    const filter = { ...(rank === undefined ? {} : { rank }), ...(level ? { level } : {}) };
    const lines: KeptLine[] = [];
    let dropped = 0;
    for await (const page of logs.pages({ experimentId, ...filter, ...place })) {
      lines.push(...page.lines);
      dropped += page.dropped;
      if (lines.length >= LINES_MAX) break;
    }
    response.json({ lines, dropped } satisfies LogView);
  };
}

/** @throws {FleetError} USAGE */
function parse(query: unknown): z.infer<typeof querySchema> {
  const parsed = querySchema.safeParse(query);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const at = issue?.path.join(".");
  throw new FleetError("USAGE", `${at ? `${at} ` : ""}${issue?.message ?? "is invalid"}`);
}
