import { mkdirSync, statSync } from "node:fs";
import path from "node:path";

/**
 * Makes a folder and those that it lies in, where they are not there. Node's own recursive
 * `mkdir` never ends where a file system takes no folders, such as /proc: this one throws.
 *
 * @throws {NodeJS.ErrnoException}
 */
export function makeFolder(folder: string): void {
  const missing: string[] = [];
  for (let at = path.resolve(folder); !isFolder(at); at = path.dirname(at)) missing.unshift(at);
  for (const next of missing) makeOne(next);
}

function isFolder(place: string): boolean {
  return statSync(place, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

function makeOne(folder: string): void {
  try {
    mkdirSync(folder);
  } catch (error) {
    // Another process may have made it meanwhile.
    if ((error as NodeJS.ErrnoException).code !== "EEXIST" || !isFolder(folder)) throw error;
  }
}
