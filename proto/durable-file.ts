/** Files that are there whole or not at all, and stay there when the power goes. */

import { createHash } from "node:crypto";
import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import path from "node:path";
import { getSystemErrorMap } from "node:util";
import { type ErrorDetail, FleetError } from "./errors.ts";

export interface WrittenFile {
  readonly bytes: number;
  /** Hexadecimal. */
  readonly sha256: string;
}

/** Pauses between attempts at writing what must not get lost: 7.5 s in all. */
export const STORAGE_PAUSES_MS: readonly number[] = [500, 1000, 2000, 4000];

/** Writes `chunks` one after the other and flushes them to the disk. */
export function writeDurably(file: string, chunks: Iterable<Uint8Array>): WrittenFile {
  const hash = createHash("sha256");
  let bytes = 0;
  const descriptor = openSync(file, "w");
  try {
    for (const chunk of chunks) {
      hash.update(chunk);
      bytes += chunk.length;
      for (let at = 0; at < chunk.length; ) at += writeSync(descriptor, chunk, at);
    }
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
  return { bytes, sha256: hash.digest("hex") };
}

export function flushFolder(folder: string): void {
  const descriptor = openSync(folder, "r");
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/**
 * Writes a file under a temporary name beside its place and renames it when it is whole.
 *
 * @param nameFor its final path, which may depend on what was written
 * @throws {FleetError} STORAGE_FAILED; whatever `nameFor` and `chunks` throw. Nothing is left then
 */
export function writeAtomically(
  file: string,
  chunks: Iterable<Uint8Array>,
  nameFor: (written: WrittenFile) => string,
): WrittenFile & { readonly path: string } {
  const folder = path.dirname(file);
  const temporary = path.join(folder, `.writing-${path.basename(file)}-${process.pid}`);
  try {
    const written = writeDurably(temporary, chunks);
    const place = nameFor(written);
    renameSync(temporary, place);
    flushFolder(folder);
    return { ...written, path: place };
  } catch (thrown) {
    discard(temporary);
    if (thrown instanceof FleetError) throw thrown;
    const { code, message } = thrown as NodeJS.ErrnoException;
    const reason = code === "ENOENT" ? `there is no folder ${folder}` : message;
    throw new FleetError("STORAGE_FAILED", `${file} could not be written: ${reason}`, {}, thrown);
  }
}

/** Removes what was left half-written. What made the write fail is what people must hear of. */
export function discard(temporary: string): void {
  try {
    rmSync(temporary, { recursive: true, force: true });
  } catch {
    // A left-over is never read.
  }
}

/**
 * STORAGE_FAILED for what a call of the file system threw, with the reason but without the path and
 * the call: "... : no space left on device (ENOSPC)". Other errors stay what they are.
 *
 * @param what cannot be done, and where
 */
export function storageError(what: string, thrown: unknown, detail: ErrorDetail = {}): FleetError {
  const { errno, code } = thrown as NodeJS.ErrnoException;
  if (thrown instanceof FleetError || errno === undefined) return FleetError.from(thrown);
  const [, meaning] = getSystemErrorMap().get(errno) ?? [];
  const reason = meaning ?? (thrown as Error).message;
  return new FleetError("STORAGE_FAILED", `${what}: ${reason} (${code})`, detail, thrown);
}
