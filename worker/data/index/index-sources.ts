/**
 * What an index was made from, and whether that is still the same.
 *
 * A file is known by its length and the time of its last change, a folder by the time alone: that
 * of a folder moves when something in it is added, removed or renamed. What is not seen: a tar file
 * changed in place whose time was set back, and file systems that keep no times of folders, such as
 * object stores that are mounted as one.
 */

import { statSync } from "node:fs";
import path from "node:path";
import type { Source } from "./index-layout.ts";

/** Something this young may change again without its time telling: some clocks count in seconds. */
const SETTLED_MS = 2000;

/** @throws {Error} from the file system */
export function sourceOf(base: string, file: string): Source {
  const found = statSync(file, { bigint: true });
  return {
    path: path.relative(base, file),
    modifiedNs: String(found.mtimeNs),
    ...(found.isDirectory() ? {} : { bytes: Number(found.size) }),
  };
}

export function areUnchanged(base: string, sources: readonly Source[]): boolean {
  return sources.every((source) => {
    try {
      const now = sourceOf(base, path.resolve(base, source.path));
      return now.modifiedNs === source.modifiedNs && now.bytes === source.bytes;
    } catch {
      // What cannot be looked at is not what it was.
      return false;
    }
  });
}

/** Whether all of them were left alone for some time before `nowMs`. */
export function areSettled(sources: readonly Source[], nowMs: number): boolean {
  const newestMs = nowMs - SETTLED_MS;
  return sources.every(({ modifiedNs }) => Number(BigInt(modifiedNs) / 1_000_000n) < newestMs);
}
