/**
 * What the index thread does: finds the kept index of a data set or makes it, and takes the images
 * that the recipe wants. Blocks.
 */

import { statSync } from "node:fs";
import path from "node:path";
import { FleetError } from "../../../proto/errors.ts";
import type { Dataset, Storage } from "../dataset.ts";
import { invalidData, reasonOf, type SplitName } from "../invalid-data.ts";
import { type BuildOptions, type BuiltIndex, buildIndex } from "./build-index.ts";
import { spreadEvenly } from "./image-list.ts";
import { loadIndex, saveIndex } from "./index-file.ts";
import type { IndexColumns, TarPlaces } from "./index-layout.ts";
import { areSettled, areUnchanged } from "./index-sources.ts";
import type { Watch } from "./index-watch.ts";
import { expandPattern } from "./list-tars.ts";
import { nameBegin, nameText } from "./name-list.ts";

/** Structured-cloneable. */
export interface IndexRequest {
  readonly split: SplitName;
  /** Folder, tar file or pattern; absolute. */
  readonly location: string;
  /** Annotation list, if it exists; absolute. */
  readonly annotations: string | undefined;
  readonly limit: number | undefined;
  /** Where indexes may be kept, in the order in which the places are tried. */
  readonly folders: readonly string[];
  /** The index of fewer images is not kept. */
  readonly keptFrom: number;
}

export interface IndexedDataset {
  readonly dataset: Dataset;
  /** Why the index could be kept nowhere. */
  readonly notKept: string | undefined;
}

/**
 * @throws {FleetError} DATA_INVALID naming the path and what was expected there;
 *   GENERATION_ABORTED from `watch`
 */
export function indexDataset(request: IndexRequest, watch: Watch): IndexedDataset {
  const { split, location } = request;
  try {
    const annotations = ifExists(request.annotations);
    const tars = location.endsWith(".tar") ? expandPattern(location, split) : undefined;
    if (tars === undefined) checkFolder(location, split);
    const { index, notKept } = findOrBuild(request, { split, location, annotations, tars }, watch);
    return { dataset: datasetOf(request, index), notKept };
  } catch (thrown) {
    if (thrown instanceof FleetError) throw thrown;
    throw invalidData(split, `${location} cannot be read: ${reasonOf(thrown)}`, thrown);
  }
}

function findOrBuild(
  { folders, keptFrom }: IndexRequest,
  options: BuildOptions,
  watch: Watch,
): { readonly index: BuiltIndex; readonly notKept: string | undefined } {
  const { location, annotations, tars = [] } = options;
  const base = path.dirname(location);
  const place = { location, annotations, folders };
  const expected = tars.map((file) => path.relative(base, file)).join("\0");
  const ready = loadIndex(
    place,
    (notes) => notes.tars.join("\0") === expected && areUnchanged(base, notes.sources),
  );
  if (ready !== undefined) return { index: ready, notKept: undefined };

  const startedMs = Date.now();
  const index = buildIndex(options, watch);
  const { sources } = index.notes;
  const isKept =
    index.columns.count >= keptFrom &&
    areSettled(sources, startedMs) &&
    areUnchanged(base, sources);
  return { index, notKept: isKept ? saveIndex(place, index.columns) : undefined };
}

/** @throws {FleetError} DATA_INVALID when an image is in none of the archives */
function datasetOf(request: IndexRequest, { columns, notes }: BuiltIndex): Dataset {
  const { split, location, limit } = request;
  const base = path.dirname(location);
  const { labelling, classes } = notes;
  const { count, labels, nameBytes, nameEnd, places } = select(columns, limit);
  const storage: Storage =
    places === undefined
      ? { type: "files", folder: location }
      : { type: "tars", tars: notes.tars.map((file) => path.join(base, file)), ...places };
  const names = typeof classes === "number" ? Array.from({ length: classes }, numeral) : classes;
  const dataset = { split, location, count, labelling, labels, nameBytes, nameEnd, storage };
  const missing = places?.tar.indexOf(-1) ?? -1;
  if (missing >= 0) {
    const name = nameText({ bytes: nameBytes, end: nameEnd }, missing);
    throw invalidData(split, `${location} lacks ${name}, which is annotated`);
  }
  return { ...dataset, classes: names };
}

function numeral(_: unknown, label: number): string {
  return String(label);
}

/** The images that a limit leaves: copies, or the columns themselves when it leaves all. */
function select(columns: IndexColumns, limit: number | undefined): Omit<IndexColumns, "memory"> {
  if (limit === undefined || limit >= columns.count) return columns;
  const kept = spreadEvenly(columns.count, limit);
  const { nameBytes, nameEnd, places } = columns;
  const names = { bytes: nameBytes, end: nameEnd };
  const ends = new Uint32Array(new SharedArrayBuffer(4 * kept.length));
  let bytes = 0;
  for (let i = 0; i < kept.length; i++) {
    bytes += nameEnd[kept[i]!]! - nameBegin(names, kept[i]!);
    ends[i] = bytes;
  }
  const keptBytes = new Uint8Array(new SharedArrayBuffer(bytes));
  for (let i = 0; i < kept.length; i++) {
    const name = nameBytes.subarray(nameBegin(names, kept[i]!), nameEnd[kept[i]!]);
    keptBytes.set(name, ends[i]! - name.length);
  }
  const labels = pick(columns.labels, kept, new Int32Array(new SharedArrayBuffer(4 * kept.length)));
  const selected = places && selectPlaces(places, kept);
  return { count: kept.length, labels, nameBytes: keptBytes, nameEnd: ends, places: selected };
}

function selectPlaces({ tar, offset, bytes }: TarPlaces, kept: Uint32Array): TarPlaces {
  const shared = (bytesEach: number) => new SharedArrayBuffer(bytesEach * kept.length);
  return {
    tar: pick(tar, kept, new Int32Array(shared(4))),
    offset: pick(offset, kept, new Float64Array(shared(8))),
    bytes: pick(bytes, kept, new Float64Array(shared(8))),
  };
}

function pick<T extends Int32Array | Float64Array>(from: T, kept: Uint32Array, to: T): T {
  for (let i = 0; i < kept.length; i++) to[i] = from[kept[i]!]!;
  return to;
}

function ifExists(file: string | undefined): string | undefined {
  if (file === undefined) return undefined;
  try {
    return statSync(file, { throwIfNoEntry: false }) && file;
  } catch (thrown) {
    const reason = `annotation list: ${reasonOf(thrown)}`;
    throw new FleetError("DATA_INVALID", reason, { path: file }, thrown);
  }
}

function checkFolder(location: string, split: SplitName): void {
  const found = statSync(location, { throwIfNoEntry: false });
  if (found?.isDirectory()) return;
  const problem = found === undefined ? "does not exist" : "is not a folder";
  const expected = "a folder of images, a folder with one folder per class, or a .tar file";
  throw invalidData(split, `${location} ${problem}; expected ${expected}`);
}
