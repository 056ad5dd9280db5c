/**
 * What a data set consists of, before it is packed: a list of images with their labels.
 *
 * Every form (folders, annotation list, tar files) comes down to names with slashes below one
 * folder, so that the same images give the same order and the same labels whichever form they come
 * in. There may be millions of them, so nothing here makes an object for each.
 */

import { FleetError } from "../../../proto/errors.ts";
import { isImageNameAt } from "./image-name.ts";
import { NameList, type Names, nameBegin, withRoom } from "./name-list.ts";
import { nameOrder, numbersUpTo, sortNumbers } from "./name-order.ts";

/** Where labels come from: folder names, numbers in an annotation list, or nowhere. */
export type Labelling = "folders" | "numbers" | "none";

export interface ImageList {
  /** Below the split's folder or in its tar file, with forward slashes. */
  readonly names: Names;
  /** Numbers of the images among the names, in the order of the data set. */
  readonly order: Uint32Array;
  /** Bytes at the beginning of every name that do not belong to it. */
  readonly skip: number;
  /** Per image, in the order of the data set; -1 for no label. */
  readonly labels: Int32Array;
  /** Name of each label: the folder's or the number itself. */
  readonly classes: readonly string[];
  readonly labelling: Labelling;
}

/** Labels from here on are taken for a damaged list. */
const LABELS_MAX = 1_000_000;
const LINE_FEED = 0x0a;
const SLASH = 0x2f;

/**
 * Makes a list of the images below one folder: a class per sub-folder, sorted by name, or no labels
 * if an image lies directly in it. Images are sorted by class, then by name. Of images of the same
 * name the last one stays.
 *
 * @param folders sub-folders known to exist; an empty one still is a class
 * @param skip bytes at the beginning of every name that do not belong to it
 */
export function listByFolder(
  names: NameList,
  { folders = [], skip = 0 }: { readonly folders?: readonly string[]; readonly skip?: number } = {},
): ImageList {
  const { compare, folderEnd } = nameOrder(names, names.count, skip);
  const sorted = numbersUpTo(names.count);
  sortNumbers(sorted, compare);
  const order = withoutDoubles(sorted, compare);
  const labels = new Int32Array(order.length).fill(-1);
  const begin = (i: number): number => nameBegin(names, i) + skip;
  // Names without folder come first.
  if (order.length === 0 || folderEnd[order[0]!] === begin(order[0]!)) {
    return { names, order, skip, labels, classes: [], labelling: "none" };
  }
  const folderOf = (i: number): Uint8Array => names.bytes.subarray(begin(i), folderEnd[i]!);
  const found = labelByFolder(order, labels, folderOf);
  const classes = [...new Set([...folders, ...found])].sort();
  const labelOf = new Map(classes.map((name, label) => [name, label]));
  const renumbered = Int32Array.from(found, (name) => labelOf.get(name)!);
  for (let i = 0; i < labels.length; i++) labels[i] = renumbered[labels[i]!]!;
  return { names, order, skip, labels, classes, labelling: "folders" };
}

/**
 * Reads `path label` lines, as in mmpretrain's meta/train.txt. The label is the last word, if it is
 * a number; a line without one is an image without label. Order is kept.
 *
 * @throws {FleetError} DATA_INVALID for a label that is no class's number
 */
export function parseAnnotations(text: Buffer): ImageList {
  const names = new NameList();
  let labels = new Int32Array(4096);
  let classCount = 0;
  for (let begin = 0; begin < text.length; ) {
    const found = text.indexOf(LINE_FEED, begin);
    const end = found < 0 ? text.length : found;
    const line = text.toString("utf8", begin, end).trim();
    begin = end + 1;
    if (line === "") continue;
    const pair = /^(?<name>.*\S)\s+(?<label>\d+)$/.exec(line)?.groups;
    const label = pair === undefined ? -1 : Number(pair["label"]);
    if (label >= LABELS_MAX) {
      const problem = `annotation list: "${line}" has a label of ${LABELS_MAX} or more`;
      throw new FleetError("DATA_INVALID", `${problem}; labels count from 0`);
    }
    labels = withRoom(labels, names.count + 1);
    labels[names.count] = label;
    names.addText(pair?.["name"] ?? line);
    classCount = Math.max(classCount, label + 1);
  }
  return {
    names,
    order: numbersUpTo(names.count),
    skip: 0,
    labels: labels.subarray(0, names.count),
    classes: Array.from({ length: classCount }, (_, label) => String(label)),
    labelling: classCount > 0 ? "numbers" : "none",
  };
}

/**
 * The folders, such as "train/", that all images of an archive lie in. They name no class:
 * an archive whose images are all in one folder has no labels.
 */
export function commonFolder(names: NameList): Uint8Array {
  const { bytes, end } = names;
  let reference: number | undefined;
  let common = 0;
  for (let i = 0; i < names.count; i++) {
    const begin = nameBegin(names, i);
    if (!isImageNameAt(bytes, begin, end[i]!)) continue;
    if (reference === undefined) {
      reference = begin;
      common = foldersOf(bytes, begin, end[i]!);
    }
    let same = 0;
    while (same < common && bytes[begin + same] === bytes[reference + same]) same++;
    if (same < common) common = foldersOf(bytes, begin, begin + same);
  }
  const begin = reference ?? 0;
  return bytes.subarray(begin, begin + common);
}

/** Keeps `limit` images, spread evenly: number i of them is image floor(i N / limit). */
export function spreadEvenly(count: number, limit: number): Uint32Array {
  const kept = new Uint32Array(Math.min(count, limit));
  for (let i = 0; i < kept.length; i++) kept[i] = Math.floor((i * count) / kept.length);
  return kept;
}

/** Numbers the folders in their order. @returns their names */
function labelByFolder(
  order: Uint32Array,
  labels: Int32Array,
  folderOf: (name: number) => Uint8Array,
): string[] {
  const found: string[] = [];
  let last: Uint8Array | undefined;
  for (let i = 0; i < order.length; i++) {
    const folder = folderOf(order[i]!);
    if (last === undefined || Buffer.compare(folder, last) !== 0) {
      found.push(Buffer.from(folder).toString("utf8"));
      last = folder;
    }
    labels[i] = found.length - 1;
  }
  return found;
}

/** Bytes up to the last slash, with it. */
function foldersOf(bytes: Uint8Array, begin: number, end: number): number {
  let at = end;
  while (at > begin && bytes[at - 1] !== SLASH) at--;
  return at - begin;
}

/** The last of equal names stays. */
function withoutDoubles(
  sorted: Uint32Array,
  compare: (a: number, b: number) => number,
): Uint32Array {
  let kept = 0;
  for (let i = 0; i < sorted.length; i++) {
    const isDouble = i + 1 < sorted.length && compare(sorted[i]!, sorted[i + 1]!) === 0;
    if (!isDouble) sorted[kept++] = sorted[i]!;
  }
  return sorted.subarray(0, kept);
}
