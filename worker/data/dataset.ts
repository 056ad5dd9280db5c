/**
 * A data set as the loaders see it: a numbered list of encoded images, each with a label.
 *
 * Everything that grows with the number of images lies in shared memory, so that handing the data
 * set to a thread copies nothing.
 */

import { readdir, readFile, stat } from "node:fs/promises";
import path from "node:path";
import { FleetError } from "../../proto/errors.ts";
import type { DataRecipe } from "../../proto/recipe.ts";
import { IMAGE_EXTENSIONS } from "./decode.ts";
import {
  type ImageList,
  type Labelling,
  listByFolder,
  parseAnnotations,
  spreadEvenly,
} from "./image-list.ts";
import { indexTar, type TarEntry } from "./tar-archive.ts";

export type SplitName = "train" | "val";

/** Where the bytes of the images are. */
type Storage =
  | { readonly type: "files"; readonly folder: string }
  | {
      readonly type: "tars";
      readonly tars: readonly string[];
      /** Per image: which tar, and the place in it. */
      readonly tar: Int32Array<SharedArrayBuffer>;
      readonly offset: Float64Array<SharedArrayBuffer>;
      readonly bytes: Float64Array<SharedArrayBuffer>;
    };

/** Structured-cloneable; the clones share their memory. Never changes once opened. */
export interface Dataset {
  readonly split: SplitName;
  /** Folder, tar file or pattern, for messages. */
  readonly location: string;
  /** Images, after the recipe's `limit`. */
  readonly count: number;
  /** Name of each label; empty without labels. With numbered labels the numbers themselves. */
  readonly classes: readonly string[];
  readonly labelling: Labelling;
  /** Per image; -1 for no label. */
  readonly labels: Int32Array<SharedArrayBuffer>;
  /** Names in UTF-8, one after the other; name i is [nameEnd[i - 1] or 0, nameEnd[i]). */
  readonly nameBytes: Uint8Array<SharedArrayBuffer>;
  readonly nameEnd: Float64Array<SharedArrayBuffer>;
  readonly storage: Storage;
}

interface TarImage extends TarEntry {
  readonly tar: number;
}

/**
 * Lists the images of one split.
 *
 * @throws {FleetError} DATA_INVALID naming the path and what was expected there
 */
export async function openDataset(data: DataRecipe, split: SplitName): Promise<Dataset> {
  const { path: where, annotations: listName, limit } = data[split];
  const location = path.resolve(data.root, where);
  const annotations =
    listName === undefined ? undefined : await readIfExists(path.resolve(data.root, listName));
  const options = { split, location, annotations, limit };
  try {
    return where.endsWith(".tar") ? await openTars(options) : await openFolder(options);
  } catch (thrown) {
    if (thrown instanceof FleetError) throw thrown;
    const reason = thrown instanceof Error ? thrown.message : String(thrown);
    throw invalid(split, `${location} cannot be read: ${reason}`, thrown);
  }
}

/** Full name of an image, for messages: its path, or TAR:NAME. */
export function imageName(dataset: Dataset, index: number): string {
  const { storage } = dataset;
  const name = entryName(dataset, index);
  return storage.type === "files"
    ? path.join(storage.folder, name)
    : `${storage.tars[storage.tar[index]!]}:${name}`;
}

/**
 * Makes sure that a classifier with `classes` outputs can be trained on one split and judged on the
 * other: both have labels, and the same label means the same class.
 *
 * @throws {FleetError} DATA_INVALID
 */
export function checkClasses(train: Dataset, val: Dataset, classes: number): void {
  for (const dataset of [train, val]) {
    if (dataset.labelling === "none" || dataset.labels.includes(-1)) {
      const expected = "expected a folder per class, or annotations with a label on every line";
      throw invalid(dataset.split, `${dataset.location} has images without label; ${expected}`);
    }
    const found = dataset.classes.length;
    if (found > classes || (found < classes && dataset.labelling === "folders")) {
      const problem = `${dataset.location} has ${found} classes, the recipe has ${classes}`;
      throw invalid(dataset.split, `${problem} (linear.classes)`);
    }
  }
  if (train.labelling !== "folders" || val.labelling !== "folders") return;
  const stranger = val.classes.find((name, label) => train.classes[label] !== name);
  if (stranger !== undefined) {
    const problem = `the class folders of ${val.location} are not those of ${train.location}`;
    throw invalid("val", `${problem}: ${stranger} is missing there or has another number`);
  }
}

interface OpenOptions {
  readonly split: SplitName;
  readonly location: string;
  /** Text of the annotation list, when there is one. */
  readonly annotations: string | undefined;
  readonly limit: number | undefined;
}

async function openFolder(options: OpenOptions): Promise<Dataset> {
  const { split, location, annotations } = options;
  const found = await stat(location).catch(() => undefined);
  if (!found?.isDirectory()) {
    const problem = found === undefined ? "does not exist" : "is not a folder";
    const expected = "a folder of images, a folder with one folder per class, or a .tar file";
    throw invalid(split, `${location} ${problem}; expected ${expected}`);
  }
  let list: ImageList;
  if (annotations === undefined) {
    const { files, folders } = await walk(location);
    list = listByFolder(files, folders);
  } else {
    list = parseAnnotations(annotations);
  }
  const kept = keep(list, options);
  return pack(options, list, kept, { type: "files", folder: location });
}

async function openTars(options: OpenOptions): Promise<Dataset> {
  const tars = await expandPattern(options);
  const images: TarImage[] = [];
  for (const [tar, file] of tars.entries()) {
    for (const entry of await indexTar(file)) images.push({ ...entry, tar });
  }
  const common = commonFolder(images.map(({ name }) => name));
  const byName = new Map(images.map((image) => [image.name.slice(common.length), image]));
  const list =
    options.annotations === undefined
      ? listByFolder([...byName.keys()])
      : parseAnnotations(options.annotations);
  const kept = keep(list, options);
  const chosen = kept.map((i) => {
    const image = byName.get(list.names[i]!) ?? byName.get(list.names[i]!.slice(common.length));
    if (image !== undefined) return image;
    throw invalid(options.split, `${options.location} lacks ${list.names[i]}, which is annotated`);
  });
  const storage: Storage = {
    type: "tars",
    tars,
    tar: sharedInt32(chosen.map(({ tar }) => tar)),
    offset: sharedFloat64(chosen.map(({ offset }) => offset)),
    bytes: sharedFloat64(chosen.map(({ bytes }) => bytes)),
  };
  return pack(options, list, kept, storage);
}

/** Numbers of the images that the data set keeps; there is at least one. */
function keep(list: ImageList, { split, location, annotations, limit }: OpenOptions): number[] {
  if (list.names.length > 0) return spreadEvenly(list.names.length, limit);
  const kinds = IMAGE_EXTENSIONS.map((extension) => `.${extension}`).join(" ");
  const expected = `expected files named ${kinds}, directly in it or in one folder per class`;
  if (annotations === undefined) {
    throw invalid(split, `${location} holds no images; ${expected}`);
  }
  throw invalid(split, "the annotation list is empty; expected `path label` lines");
}

function pack(
  { split, location }: OpenOptions,
  list: ImageList,
  kept: readonly number[],
  storage: Storage,
): Dataset {
  const names = kept.map((i) => Buffer.from(list.names[i]!, "utf8"));
  const nameEnd = sharedFloat64(names.map(({ length }) => length));
  for (let i = 1; i < nameEnd.length; i++) nameEnd[i]! += nameEnd[i - 1]!;
  const nameBytes = new Uint8Array(new SharedArrayBuffer(nameEnd.at(-1) ?? 0));
  for (const [i, name] of names.entries()) nameBytes.set(name, nameEnd[i]! - name.length);
  return {
    split,
    location,
    count: kept.length,
    classes: list.classes,
    labelling: list.labelling,
    labels: sharedInt32(kept.map((i) => list.labels[i]!)),
    nameBytes,
    nameEnd,
    storage,
  };
}

/** Name of an image within its folder or tar file. */
function entryName({ nameBytes, nameEnd }: Dataset, index: number): string {
  const begin = index === 0 ? 0 : nameEnd[index - 1]!;
  return Buffer.from(nameBytes.subarray(begin, nameEnd[index])).toString("utf8");
}

/** Everything below a folder, symbolic links followed, hidden files and folders left out. */
async function walk(root: string): Promise<{ files: string[]; folders: string[] }> {
  const files: string[] = [];
  const folders: string[] = [];
  const pending = [""];
  for (let below = pending.pop(); below !== undefined; below = pending.pop()) {
    for (const entry of await readdir(path.join(root, below), { withFileTypes: true })) {
      if (entry.name.startsWith(".")) continue;
      const name = `${below}${entry.name}`;
      const isFolder = entry.isSymbolicLink()
        ? (await stat(path.join(root, name)).catch(() => entry)).isDirectory()
        : entry.isDirectory();
      if (!isFolder) files.push(name);
      else pending.push(`${name}/`);
      if (isFolder && below === "") folders.push(entry.name);
    }
  }
  return { files, folders };
}

/** The tar files that a path with at most one `*` in its last part means, sorted by name. */
async function expandPattern({ split, location }: OpenOptions): Promise<string[]> {
  const folder = path.dirname(location);
  const [head = "", tail = "", ...more] = path.basename(location).split("*");
  if (more.length > 0 || folder.includes("*")) {
    throw invalid(split, `${location} may have one *, in the name of the tar files`);
  }
  const isPattern = location.includes("*");
  const matches = (name: string): boolean =>
    isPattern
      ? name.length >= head.length + tail.length && name.startsWith(head) && name.endsWith(tail)
      : name === head;
  const names = await readdir(folder).catch(() => []);
  const tars = names.filter(matches).sort();
  if (tars.length === 0) {
    const expected = isPattern ? "tar files of that name pattern" : "a tar file of images";
    throw invalid(split, `${location} does not exist; expected ${expected}`);
  }
  return tars.map((name) => path.join(folder, name));
}

/**
 * The folders, such as "train/", that all images of an archive lie in. They name no class: an
 * archive whose images are all in one folder has no labels.
 */
function commonFolder(files: readonly string[]): string {
  const images = listByFolder(files).names;
  let common = images[0]?.replace(/[^/]*$/, "") ?? "";
  for (const name of images) {
    while (!name.startsWith(common)) common = common.replace(/[^/]*\/$/, "");
  }
  return common;
}

async function readIfExists(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, "utf8");
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    const reason = thrown instanceof Error ? thrown.message : String(thrown);
    throw new FleetError("DATA_INVALID", `annotation list: ${reason}`, { path: file }, thrown);
  }
}

function sharedInt32(values: readonly number[]): Int32Array<SharedArrayBuffer> {
  const shared = new Int32Array(new SharedArrayBuffer(values.length * 4));
  shared.set(values);
  return shared;
}

function sharedFloat64(values: readonly number[]): Float64Array<SharedArrayBuffer> {
  const shared = new Float64Array(new SharedArrayBuffer(values.length * 8));
  shared.set(values);
  return shared;
}

function invalid(split: SplitName, message: string, cause?: unknown): FleetError {
  return new FleetError("DATA_INVALID", `data.${split}: ${message}`, { split }, cause);
}
