/**
 * Keeps the index of a data set from one start to the next: `.NAME-HASH.index`, beside the data or,
 * where that cannot be written, in a folder of the worker's.
 *
 * An index that does not fit, for whatever reason, counts as none: it is made anew. Several workers
 * may do so at once; each writes a file of its own and renames it, so that the last one stays.
 */

import { createHash, randomBytes } from "node:crypto";
import {
  closeSync,
  fstatSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import path from "node:path";
import { makeFolder } from "../../../proto/make-folder.ts";
import { reasonOf } from "../invalid-data.ts";
import {
  HEADER_BYTES,
  type IndexColumns,
  type IndexNotes,
  indexBytes,
  viewIndex,
} from "./index-layout.ts";

/** What a writer that was killed has left is removed after this time. */
const LEFT_OVER_MS = 3_600_000;
/** Bytes that are read or written at a time. */
const PIECE_BYTES = 64 * 1024 * 1024;

/** Which data set, and where its index may lie. */
export interface IndexPlace {
  /** Folder, tar file or pattern; absolute. */
  readonly location: string;
  /** Annotation list; absolute. */
  readonly annotations: string | undefined;
  /** In the order in which they are tried. */
  readonly folders: readonly string[];
}

/** The first sound index that `isFresh` accepts. */
export function loadIndex(
  place: IndexPlace,
  isFresh: (notes: IndexNotes) => boolean,
): { readonly columns: IndexColumns; readonly notes: IndexNotes } | undefined {
  for (const folder of place.folders) {
    const found = readIndex(indexFile(place, folder));
    if (found !== undefined && isFresh(found.notes)) return found;
  }
  return undefined;
}

/** @returns why it could be kept nowhere, or undefined when it was */
export function saveIndex(place: IndexPlace, { memory }: IndexColumns): string | undefined {
  const reasons: string[] = [];
  for (const folder of place.folders) {
    try {
      makeFolder(folder);
      replaceFile(indexFile(place, folder), new Uint8Array(memory));
      return undefined;
    } catch (thrown) {
      reasons.push(reasonOf(thrown));
    }
  }
  return reasons.join("; ");
}

/**
 * Named by the way from the folder to the data, so that an index that lies beside its data moves
 * with it.
 */
function indexFile({ location, annotations }: IndexPlace, folder: string): string {
  const key = [location, ...(annotations === undefined ? [] : [annotations])];
  const ways = key.map((file) => path.relative(folder, file));
  const hash = createHash("sha256").update(ways.join("\0")).digest("hex").slice(0, 12);
  return path.join(folder, `.${path.basename(location).replaceAll("*", "_")}-${hash}.index`);
}

function readIndex(file: string): ReturnType<typeof viewIndex> {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(file, "r");
    const header = new Uint32Array(HEADER_BYTES / 4);
    const got = readSync(descriptor, header, 0, HEADER_BYTES, 0);
    const total = got === HEADER_BYTES ? indexBytes(header) : undefined;
    if (total === undefined || total !== fstatSync(descriptor).size) return undefined;
    const memory = new SharedArrayBuffer(total);
    return readWhole(descriptor, new Uint8Array(memory)) ? viewIndex(memory) : undefined;
  } catch {
    // There is none, or none that can be read.
    return undefined;
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

function readWhole(descriptor: number, bytes: Uint8Array): boolean {
  for (let done = 0; done < bytes.length; ) {
    const length = Math.min(PIECE_BYTES, bytes.length - done);
    const got = readSync(descriptor, bytes, done, length, done);
    if (got === 0) return false;
    done += got;
  }
  return true;
}

function replaceFile(file: string, bytes: Uint8Array): void {
  const temporary = `${file}.${randomBytes(6).toString("hex")}.tmp`;
  try {
    const descriptor = openSync(temporary, "wx", 0o644);
    try {
      for (let done = 0; done < bytes.length; ) {
        done += writeSync(descriptor, bytes, done, Math.min(PIECE_BYTES, bytes.length - done));
      }
    } finally {
      closeSync(descriptor);
    }
    renameSync(temporary, file);
  } catch (thrown) {
    rmSync(temporary, { force: true });
    throw thrown;
  }
  removeLeftOvers(file);
}

function removeLeftOvers(file: string): void {
  const folder = path.dirname(file);
  for (const name of readdirSync(folder)) {
    if (!name.startsWith(`${path.basename(file)}.`) || !name.endsWith(".tmp")) continue;
    const old = path.join(folder, name);
    const found = statSync(old, { throwIfNoEntry: false });
    if (found && Date.now() - found.mtimeMs > LEFT_OVER_MS) rmSync(old, { force: true });
  }
}
