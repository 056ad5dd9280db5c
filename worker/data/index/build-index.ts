/** Makes the index of a data set, from what lies on disk to one block of memory. */

import { readFileSync } from "node:fs";
import path from "node:path";
import { FleetError } from "../../../proto/errors.ts";
import { invalidData, reasonOf, type SplitName } from "../invalid-data.ts";
import { commonFolder, type ImageList, listByFolder, parseAnnotations } from "./image-list.ts";
import { IMAGE_EXTENSIONS } from "./image-name.ts";
import {
  allocateIndex,
  type IndexColumns,
  type IndexNotes,
  type Source,
  sealIndex,
} from "./index-layout.ts";
import { sourceOf } from "./index-sources.ts";
import type { Watch } from "./index-watch.ts";
import { listFolder } from "./list-folder.ts";
import { listTars, type TarListing } from "./list-tars.ts";
import { nameBegin } from "./name-list.ts";
import { NameLookup } from "./name-lookup.ts";

export interface BuildOptions {
  readonly split: SplitName;
  /** Folder, tar file or pattern; absolute. */
  readonly location: string;
  /** Annotation list; absolute. */
  readonly annotations: string | undefined;
  /** The archives that `location` means; undefined for a folder. */
  readonly tars: readonly string[] | undefined;
}

export interface BuiltIndex {
  readonly columns: IndexColumns;
  readonly notes: IndexNotes;
}

/**
 * Lists, sorts and packs the images. Blocks.
 *
 * @throws {FleetError} DATA_INVALID; GENERATION_ABORTED from `watch`
 * @throws {Error} from the file system
 */
export function buildIndex(options: BuildOptions, watch: Watch): BuiltIndex {
  return options.tars === undefined
    ? indexFolder(options, watch)
    : indexTars(options, options.tars, watch);
}

function indexFolder(options: BuildOptions, watch: Watch): BuiltIndex {
  const { location, annotations } = options;
  if (annotations !== undefined) {
    const { list, sources } = readAnnotations(options, annotations);
    return pack(list, { tars: [], sources });
  }
  const { names, folders, sources } = listFolder(location, watch);
  return pack(checked(listByFolder(names, { folders }), options), { tars: [], sources });
}

function indexTars(options: BuildOptions, tars: readonly string[], watch: Watch): BuiltIndex {
  const { location, annotations } = options;
  const base = path.dirname(location);
  const relative = tars.map((file) => path.relative(base, file));
  if (annotations === undefined) {
    const listing = listTars(tars, { base, imagesOnly: true }, watch);
    const { names, sources } = listing;
    const list = checked(listByFolder(names, { skip: commonFolder(names).length }), options);
    return pack(list, { tars: relative, sources }, { listing, entryOf: list.order });
  }
  // The list may name files that are not named like images.
  const listing = listTars(tars, { base, imagesOnly: false }, watch);
  const { list, sources: listed } = readAnnotations(options, annotations);
  const sources = [...listing.sources, ...listed];
  return pack(list, { tars: relative, sources }, { listing, entryOf: findEntries(list, listing) });
}

function readAnnotations(options: BuildOptions, file: string) {
  const base = path.dirname(options.location);
  const sources = [sourceOf(base, file)];
  return { list: checked(parseAnnotations(readList(file)), options), sources };
}

function readList(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (thrown) {
    const reason = `annotation list: ${reasonOf(thrown)}`;
    throw new FleetError("DATA_INVALID", reason, { path: file }, thrown);
  }
}

/** @throws {FleetError} DATA_INVALID for a list of nothing */
function checked(list: ImageList, { split, location, annotations }: BuildOptions): ImageList {
  if (list.order.length > 0) return list;
  if (annotations !== undefined) {
    throw invalidData(split, "the annotation list is empty; expected `path label` lines");
  }
  const kinds = IMAGE_EXTENSIONS.map((extension) => `.${extension}`).join(" ");
  const expected = `expected files named ${kinds}, directly in it or in one folder per class`;
  throw invalidData(split, `${location} holds no images; ${expected}`);
}

/**
 * For each image of a list its entry in the archives, or -1. The list may name it with or without
 * the folder that all images of the archives lie in.
 */
function findEntries({ names, order }: ImageList, listing: TarListing): Int32Array {
  const lookup = new NameLookup(listing.names);
  const common = commonFolder(listing.names);
  const entryOf = new Int32Array(order.length);
  let whole = Buffer.from(common);
  for (let i = 0; i < order.length; i++) {
    const begin = nameBegin(names, i);
    const end = names.end[i]!;
    const length = common.length + end - begin;
    if (whole.length < length) whole = Buffer.concat([common], 2 * length);
    whole.set(names.bytes.subarray(begin, end), common.length);
    entryOf[i] = lookup.find(whole, 0, length) ?? lookup.find(names.bytes, begin, end) ?? -1;
  }
  return entryOf;
}

/** Which entry of which archive each image is; negative for none. */
interface Places {
  readonly listing: TarListing;
  readonly entryOf: Int32Array | Uint32Array;
}

function pack(
  list: ImageList,
  made: { readonly tars: readonly string[]; readonly sources: readonly Source[] },
  places?: Places,
): BuiltIndex {
  const { names, order, skip, labels, labelling } = list;
  let nameBytes = 0;
  for (const name of order) nameBytes += names.end[name]! - nameBegin(names, name) - skip;
  const classes = labelling === "numbers" ? list.classes.length : [...list.classes];
  const notes: IndexNotes = {
    labelling,
    classes,
    tars: [...made.tars],
    sources: [...made.sources],
  };
  const shape = { count: order.length, nameBytes, inTars: places !== undefined };
  const columns = allocateIndex(shape, notes);
  columns.labels.set(labels);
  let end = 0;
  for (let i = 0; i < order.length; i++) {
    const name = order[i]!;
    const begin = nameBegin(names, name) + skip;
    columns.nameBytes.set(names.bytes.subarray(begin, names.end[name]!), end);
    end += names.end[name]! - begin;
    columns.nameEnd[i] = end;
  }
  if (places !== undefined) packPlaces(columns, places);
  sealIndex(columns);
  return { columns, notes };
}

function packPlaces({ places }: IndexColumns, { listing, entryOf }: Places): void {
  if (places === undefined) return;
  for (let i = 0; i < entryOf.length; i++) {
    const entry = entryOf[i]!;
    places.tar[i] = entry < 0 ? -1 : listing.tar[entry]!;
    if (entry < 0) continue;
    places.offset[i] = listing.offset[entry]!;
    places.bytes[i] = listing.bytes[entry]!;
  }
}
