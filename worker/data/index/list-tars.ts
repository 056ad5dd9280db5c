/** Lists the files in the tar archives that a data set consists of. */

import { readdirSync } from "node:fs";
import path from "node:path";
import { invalidData, type SplitName } from "../invalid-data.ts";
import { isImageNameAt } from "./image-name.ts";
import type { Source } from "./index-layout.ts";
import { sourceOf } from "./index-sources.ts";
import type { Watch } from "./index-watch.ts";
import { NameList, withRoom } from "./name-list.ts";
import { indexTar } from "./tar-archive.ts";

const ENTRIES_FIRST = 4096;

/** Per name: which tar file, and the place in it. Arrays may be longer than the list of names. */
export interface TarListing {
  readonly names: NameList;
  readonly tar: Int32Array;
  readonly offset: Float64Array;
  readonly bytes: Float64Array;
  readonly sources: readonly Source[];
}

/**
 * Lists all files of all archives, or images only. Blocks.
 *
 * @throws {FleetError} DATA_INVALID for a damaged archive
 */
export function listTars(
  tars: readonly string[],
  { base, imagesOnly }: { readonly base: string; readonly imagesOnly: boolean },
  watch: Watch,
): TarListing {
  const names = new NameList();
  let tar = new Int32Array(ENTRIES_FIRST);
  let offset = new Float64Array(ENTRIES_FIRST);
  let bytes = new Float64Array(ENTRIES_FIRST);
  const sources = tars.map((file) => sourceOf(base, file));
  const total = sources.reduce((sum, source) => sum + (source.bytes ?? 0), 0);
  let before = 0;
  for (const [number, file] of tars.entries()) {
    indexTar(file, (name, at, length) => {
      watch(names.count, Math.min(1, (before + at) / total));
      if (imagesOnly && !isImageNameAt(name, 0, name.length)) return;
      const last = names.count;
      names.add(name);
      tar = withRoom(tar, names.count);
      offset = withRoom(offset, names.count);
      bytes = withRoom(bytes, names.count);
      tar[last] = number;
      offset[last] = at;
      bytes[last] = length;
    });
    before += sources[number]?.bytes ?? 0;
  }
  return { names, tar, offset, bytes, sources };
}

/** The tar files that a path with at most one `*` in its last part means, sorted by name. */
export function expandPattern(location: string, split: SplitName): string[] {
  const folder = path.dirname(location);
  const [head = "", tail = "", ...more] = path.basename(location).split("*");
  if (more.length > 0 || folder.includes("*")) {
    throw invalidData(split, `${location} may have one *, in the name of the tar files`);
  }
  const isPattern = location.includes("*");
  const matches = (name: string): boolean =>
    isPattern
      ? name.length >= head.length + tail.length && name.startsWith(head) && name.endsWith(tail)
      : name === head;
  const tars = namesIn(folder).filter(matches).sort();
  if (tars.length === 0) {
    const expected = isPattern ? "tar files of that name pattern" : "a tar file of images";
    throw invalidData(split, `${location} does not exist; expected ${expected}`);
  }
  return tars.map((name) => path.join(folder, name));
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    // Whatever should be in it is not there.
    return [];
  }
}
