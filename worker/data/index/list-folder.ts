/** Lists the images below a folder. */

import { opendirSync, statSync } from "node:fs";
import path from "node:path";
import { isImageNameAt } from "./image-name.ts";
import type { Source } from "./index-layout.ts";
import { sourceOf } from "./index-sources.ts";
import type { Watch } from "./index-watch.ts";
import { NameList, nameBegin } from "./name-list.ts";

/** Directory entries that are read at a time. */
const ENTRIES_AT_ONCE = 1024;

export interface FolderListing {
  readonly names: NameList;
  /** Those directly in the folder. */
  readonly folders: readonly string[];
  /** Every folder that was read. */
  readonly sources: readonly Source[];
}

/** Follows symbolic links; leaves hidden files and folders out. Blocks. */
export function listFolder(root: string, watch: Watch): FolderListing {
  const names = new NameList();
  const folders: string[] = [];
  const sources: Source[] = [];
  const pending = [""];
  for (let below = pending.pop(); below !== undefined; below = pending.pop()) {
    const folder = path.join(root, below);
    sources.push(sourceOf(path.dirname(root), folder));
    for (const entry of entriesOf(folder)) {
      if (entry.name.startsWith(".")) continue;
      const name = `${below}${entry.name}`;
      const isFolder = entry.isSymbolicLink()
        ? isFolderBehind(path.join(root, name))
        : entry.isDirectory();
      if (!isFolder) addImage(names, name);
      else pending.push(`${name}/`);
      if (isFolder && below === "") folders.push(entry.name);
      const share = sources.length / (sources.length + pending.length);
      watch(names.count, share);
    }
  }
  return { names, folders, sources };
}

function* entriesOf(folder: string) {
  const directory = opendirSync(folder, { bufferSize: ENTRIES_AT_ONCE });
  try {
    for (let entry = directory.readSync(); entry; entry = directory.readSync()) yield entry;
  } finally {
    directory.closeSync();
  }
}

function isFolderBehind(link: string): boolean {
  try {
    return statSync(link).isDirectory();
  } catch {
    // A link to nowhere is an image that cannot be read.
    return false;
  }
}

function addImage(names: NameList, name: string): void {
  names.addText(name);
  const last = names.count - 1;
  if (!isImageNameAt(names.bytes, nameBegin(names, last), names.end[last]!)) names.removeLast();
}
