/** Reads scalars.jsonl, what a stage leaves behind of its steps and its validations. */

import { readFile } from "node:fs/promises";
import { z } from "zod";
import { FleetError } from "../errors.ts";

const rowSchema = z.looseObject({ step: z.int().positive() });

/** One line. `step` counts from 1. */
export type ScalarRow = Readonly<z.output<typeof rowSchema>>;

export interface Scalars {
  readonly rows: readonly ScalarRow[];
  /** Numbers of the lines that are no JSON object with a step, from 1; they are passed over. */
  readonly damaged: readonly number[];
}

/** @throws {FleetError} NOT_FOUND when the file cannot be read, DATA_INVALID without a good line */
export async function readScalars(file: string): Promise<Scalars> {
  const text = await readFile(file, "utf8").catch((cause: NodeJS.ErrnoException) => {
    const reason = cause.code === "ENOENT" ? "no such file" : cause.message;
    throw new FleetError("NOT_FOUND", `cannot read ${file}: ${reason}`, {}, cause);
  });
  const scalars = parseScalars(text);
  if (scalars.rows.length > 0) return scalars;
  const problem = text.trim() === "" ? "is empty" : "has no line with a step in it";
  throw new FleetError("DATA_INVALID", `${file} ${problem}; expected scalars.jsonl of a stage`);
}

function parseScalars(text: string): Scalars {
  const rows: ScalarRow[] = [];
  const damaged: number[] = [];
  for (const [i, line] of text.split("\n").entries()) {
    if (line.trim() === "") continue;
    const row = parseRow(line);
    if (row === undefined) damaged.push(i + 1);
    else rows.push(row);
  }
  return { rows, damaged };
}

function parseRow(line: string): ScalarRow | undefined {
  let json: unknown;
  try {
    json = JSON.parse(line);
  } catch {
    // The last line of a run that was killed may be half a line.
    return undefined;
  }
  return rowSchema.safeParse(json).data;
}

/** A number in a line; undefined where there is none of that name. */
export function figureOf(row: ScalarRow, key: string): number | undefined {
  const value = row[key];
  return typeof value === "number" ? value : undefined;
}
