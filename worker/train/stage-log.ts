/** What rank 0 leaves on disk for people and tools: scalars.jsonl and result.json. */

import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { FleetError } from "../../proto/errors.ts";
import type { StageResult } from "./stage-job.ts";

/** Any line of scalars.jsonl; `step` counts finished steps from 1. */
type ScalarLine = Readonly<Record<string, string | number>> & { readonly step: number };

export interface StageLog {
  write(line: ScalarLine): void;
  writeResult(result: StageResult): void;
}

/** Ranks other than 0 write nothing. */
export const silentLog: StageLog = { write: () => {}, writeResult: () => {} };

/**
 * Opens the files in `folder`.
 *
 * @param startStep lines of later steps, left by a run that was interrupted after its last
 *   checkpoint, are dropped: these steps are about to be repeated
 * @throws {FleetError} STORAGE_FAILED
 */
export function openStageLog(folder: string, startStep: number): StageLog {
  const scalars = path.join(folder, "scalars.jsonl");
  onDisk(folder, () => {
    mkdirSync(folder, { recursive: true });
    const kept = existsSync(scalars) ? linesUntil(readFileSync(scalars, "utf8"), startStep) : "";
    writeFileSync(scalars, kept);
  });
  return {
    write: (line) => onDisk(scalars, () => appendFileSync(scalars, `${JSON.stringify(line)}\n`)),
    writeResult: (result) =>
      onDisk(folder, () => {
        const temporary = path.join(folder, ".result.json");
        writeFileSync(temporary, `${JSON.stringify(result, undefined, 2)}\n`);
        renameSync(temporary, path.join(folder, "result.json"));
      }),
  };
}

function linesUntil(text: string, step: number): string {
  const kept = text.split("\n").filter((line) => {
    if (line === "") return false;
    try {
      return (JSON.parse(line) as { step: number }).step <= step;
    } catch {
      // A line that was being written when the process was killed.
      return false;
    }
  });
  return kept.map((line) => `${line}\n`).join("");
}

function onDisk(what: string, action: () => void): void {
  try {
    action();
  } catch (thrown) {
    const reason = thrown instanceof Error ? thrown.message : String(thrown);
    throw new FleetError("STORAGE_FAILED", `cannot write ${what}: ${reason}`, {}, thrown);
  }
}
