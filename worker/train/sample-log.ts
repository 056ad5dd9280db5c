/**
 * Which images every step was made of, for whoever must prove it: samples-rank-N.jsonl in the
 * stage's folder, a line per step that this rank has applied.
 *
 * Ranks only ever append, so that the lines of a gang that broke up stay: a step that was repeated
 * is there once for each generation.
 */

import { closeSync, openSync, writeSync } from "node:fs";
import path from "node:path";
import { FleetError } from "../../proto/errors.ts";
import { makeFolder } from "../../proto/make-folder.ts";
import type { Batch, BatchReader } from "../data/batch-reader.ts";
import type { StageJob } from "./stage-job.ts";

/** A line of the file; `step` counts finished steps from 1, `epoch` from 0. */
export interface SampleLine {
  readonly generation: number;
  readonly step: number;
  readonly rank: number;
  readonly epoch: number;
  /** Numbers of the images in the data set, in the order of the batch. */
  readonly images: readonly number[];
}

/** The name of a rank's file in the stage's folder. */
export function sampleLogName(rank: number): string {
  return `samples-rank-${rank}.jsonl`;
}

/**
 * The same batches; each is written down when it is given back, which the training loop does once
 * its step is applied.
 *
 * @throws {FleetError} STORAGE_FAILED, from `done()` too
 */
export function logSamples(
  batches: BatchReader,
  { folder, generation, rank }: Pick<StageJob, "folder" | "generation" | "rank">,
): BatchReader {
  const file = path.join(folder, sampleLogName(rank));
  let held: Batch | undefined;
  const append = (line: SampleLine): void =>
    onDisk(file, () => {
      const descriptor = openSync(file, "a");
      try {
        // One write: a process that is killed leaves the line whole, or does not leave it.
        writeSync(descriptor, `${JSON.stringify(line)}\n`);
      } finally {
        closeSync(descriptor);
      }
    });
  onDisk(file, () => makeFolder(folder));
  return {
    next() {
      held = batches.next();
      return held;
    },
    done() {
      if (held) {
        const { step, epoch, indices } = held;
        append({ generation, step: step + 1, rank, epoch, images: [...indices] });
      }
      held = undefined;
      batches.done();
    },
  };
}

function onDisk(file: string, action: () => void): void {
  try {
    action();
  } catch (thrown) {
    const reason = thrown instanceof Error ? thrown.message : String(thrown);
    throw new FleetError("STORAGE_FAILED", `cannot write ${file}: ${reason}`, {}, thrown);
  }
}
