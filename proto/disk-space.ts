/** How much room there is where a process writes. */

import { statfs } from "node:fs/promises";
import path from "node:path";
import { within } from "./within.ts";

/** A mount that does not answer must not hold up what else is asked for. */
const TIMEOUT_MS = 1_000;

export interface DiskSpace {
  /** For this user; what is kept for root is not in it. */
  readonly freeBytes: number;
  readonly sizeBytes: number;
}

/**
 * Gives the way to look at the file system that `folder` lies in, or will: undefined where that
 * does not answer. However often it is asked, one look is under way at a time.
 */
export function diskSpaceOf(folder: string): () => Promise<DiskSpace | undefined> {
  let underWay: Promise<DiskSpace | undefined> | undefined;
  return async () => {
    underWay ??= look(path.resolve(folder)).finally(() => {
      underWay = undefined;
    });
    return await within(underWay, TIMEOUT_MS);
  };
}

/** A folder that is not there yet will be made in the one above. */
async function look(folder: string): Promise<DiskSpace | undefined> {
  try {
    const { bavail, blocks, bsize } = await statfs(folder);
    return { freeBytes: bavail * bsize, sizeBytes: blocks * bsize };
  } catch (thrown) {
    const isMissing = (thrown as NodeJS.ErrnoException).code === "ENOENT";
    return isMissing && folder !== path.dirname(folder) ? look(path.dirname(folder)) : undefined;
  }
}
