/**
 * What rank 0 leaves on disk for people and tools: scalars.jsonl and result.json.
 *
 * Storage that fails does not end a training: lines wait in memory until they can be written. Once
 * the stage's checkpoints belong to a later generation, nothing is written any more.
 */

import { appendFileSync, existsSync, readFileSync, statSync, truncateSync } from "node:fs";
import path from "node:path";
import { STORAGE_PAUSES_MS, storageError, writeAtomically } from "../../proto/durable-file.ts";
import { FleetError } from "../../proto/errors.ts";
import { makeFolder } from "../../proto/make-folder.ts";
import { openStore } from "../checkpoint/checkpoint-store.ts";
import { assertOwned } from "../checkpoint/store-fence.ts";
import { checkpointStore } from "./stage-context.ts";
import type { StageJob, StageResult } from "./stage-job.ts";

/** Any line of scalars.jsonl; `step` counts finished steps from 1. */
export type ScalarLine = Readonly<Record<string, string | number>> & { readonly step: number };

export interface StageLog {
  /** The lines of the newest step that has any, in order. */
  readonly newest: readonly ScalarLine[];
  write(line: ScalarLine): void;
  /**
   * Takes over what the ranks' logs have as {@link newest} when a stage is gone on with, and writes
   * what of it is missing: an earlier rank 0 may have been lost before it had written all.
   */
  makeUp(lines: readonly ScalarLine[]): void;
  writeResult(result: StageResult): void;
}

/** Of ranks other than 0, which write nothing. */
export function silentLog(): StageLog {
  const newest = new NewestLines();
  return {
    get newest() {
      return newest.lines;
    },
    write: (line) => newest.add(line),
    makeUp: (lines) => {
      for (const line of lines) newest.add(line);
    },
    writeResult: () => {},
  };
}

class NewestLines {
  lines: readonly ScalarLine[] = [];

  add(line: ScalarLine): void {
    const isOfStep = this.lines[0]?.step === line.step;
    this.lines = isOfStep ? [...this.lines, line] : [line];
  }
}

/** Of an outage longer than this many lines, the first ones get lost. */
const WAITING_MAX = 10_000;

/**
 * Claims the stage's folder for its generation and opens the files in it. Lines of steps after
 * `startStep`, left by a run that was interrupted after its last checkpoint, are dropped: these
 * steps are about to be repeated.
 *
 * @param onProblem hears why something cannot be written, once, and undefined when it can again
 * @returns whose methods throw GENERATION_ABORTED when the folder belongs to a later generation
 * @throws {FleetError} STORAGE_FAILED when the stage has only begun: a folder that cannot be
 *   written is then most likely the wrong one; GENERATION_ABORTED
 */
export function openStageLog(
  job: Pick<StageJob, "folder" | "generation" | "startStep">,
  onProblem: (problem: string | undefined) => void,
): StageLog {
  const files = new StageFiles(job, onProblem);
  files.open();
  return files;
}

class StageFiles implements StageLog {
  readonly #job: Pick<StageJob, "folder" | "generation" | "startStep">;
  readonly #onProblem: (problem: string | undefined) => void;
  readonly #store: string;
  readonly #scalars: string;
  /** Bytes of the lines that are in the file; undefined before it was opened. */
  #length: number | undefined;
  /** Whether the file may hold part of a line, or be gone, because writing it has failed. */
  #isTorn = false;
  #waiting: string[] = [];
  readonly #newest = new NewestLines();
  #problem: string | undefined;

  constructor(
    job: Pick<StageJob, "folder" | "generation" | "startStep">,
    onProblem: (problem: string | undefined) => void,
  ) {
    this.#job = job;
    this.#onProblem = onProblem;
    this.#store = checkpointStore(job.folder);
    this.#scalars = path.join(job.folder, "scalars.jsonl");
  }

  open(): void {
    const { generation, startStep } = this.#job;
    const mayFail = startStep > 0;
    try {
      openStore(this.#store, generation);
    } catch (thrown) {
      // The first checkpoint claims the store, too, and names what fails.
      if (!mayFail || FleetError.from(thrown).code !== "STORAGE_FAILED") throw thrown;
    }
    const isOpen = this.#whenOwned(() => this.#openScalars());
    if (!isOpen && !mayFail) throw new FleetError("STORAGE_FAILED", this.#problem ?? "");
  }

  get newest(): readonly ScalarLine[] {
    return this.#newest.lines;
  }

  makeUp(lines: readonly ScalarLine[]): void {
    const step = lines[0]?.step;
    const written = stepsIn(readIfThere(this.#scalars)).filter((one) => one === step).length;
    for (const line of lines.slice(0, written)) this.#newest.add(line);
    for (const line of lines.slice(written)) this.write(line);
  }

  write(line: ScalarLine): void {
    this.#newest.add(line);
    this.#waiting.push(`${JSON.stringify(line)}\n`);
    this.#waiting = this.#waiting.slice(-WAITING_MAX);
    this.#whenOwned(() => this.#flush());
  }

  writeResult(result: StageResult): void {
    const file = path.join(this.#job.folder, "result.json");
    const text = Buffer.from(`${JSON.stringify(result, undefined, 2)}\n`);
    for (const pause of [...STORAGE_PAUSES_MS, undefined]) {
      const isWritten = this.#whenOwned(() => {
        writeAtomically(file, [text], () => file);
        this.#flush();
      });
      if (isWritten || pause === undefined) return;
      sleep(pause);
    }
  }

  /** @throws {FleetError} GENERATION_ABORTED */
  #whenOwned(write: () => void): boolean {
    assertOwned(this.#store, this.#job.generation);
    try {
      write();
      this.#tell(undefined);
      return true;
    } catch (thrown) {
      const error = this.#storageError(thrown);
      if (error.code !== "STORAGE_FAILED") throw error;
      this.#tell(error.message);
      return false;
    }
  }

  #flush(): void {
    const text = this.#waiting.join("");
    if (text === "") return;
    if (this.#length === undefined) this.#openScalars();
    else if (this.#isTorn) this.#mend(this.#length);
    this.#isTorn = true;
    appendFileSync(this.#scalars, text);
    this.#isTorn = false;
    this.#length! += Buffer.byteLength(text);
    this.#waiting = [];
  }

  #openScalars(): void {
    const kept = linesUntil(readIfThere(this.#scalars), this.#job.startStep);
    makeFolder(this.#job.folder);
    writeAtomically(this.#scalars, [Buffer.from(kept)], () => this.#scalars);
    this.#length = Buffer.byteLength(kept);
  }

  /** Cuts off what a write that failed has left, or begins anew where the file is gone. */
  #mend(length: number): void {
    if (!existsSync(this.#job.folder)) makeFolder(this.#job.folder);
    const found = statSync(this.#scalars, { throwIfNoEntry: false })?.size ?? 0;
    this.#length = Math.min(length, found);
    if (found > length) truncateSync(this.#scalars, length);
  }

  #tell(problem: string | undefined): void {
    if (problem === this.#problem) return;
    this.#problem = problem;
    this.#onProblem(problem);
  }

  #storageError(thrown: unknown): FleetError {
    const { folder } = this.#job;
    return storageError(`log lines cannot be written to ${folder}`, thrown, { folder });
  }
}

function readIfThere(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === "ENOENT") return "";
    throw thrown;
  }
}

function sleep(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

function linesUntil(text: string, step: number): string {
  const kept = text
    .split("\n")
    .filter((line) => (stepOf(line) ?? Number.POSITIVE_INFINITY) <= step);
  return kept.map((line) => `${line}\n`).join("");
}

function stepsIn(text: string): (number | undefined)[] {
  return text.split("\n").map(stepOf);
}

/** Undefined for an empty line, and for one that was being written when the process was killed. */
function stepOf(line: string): number | undefined {
  try {
    return (JSON.parse(line) as { step: number }).step;
  } catch {
    return undefined;
  }
}
