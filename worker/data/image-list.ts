/**
 * What a data set consists of, before it is packed: a list of images with their labels.
 *
 * Every form (folders, annotation list, tar files) comes down to names with slashes below one
 * folder, so that the same images give the same order and the same labels whichever form they come
 * in.
 */

import { isImageName } from "./decode.ts";

/** Where labels come from: folder names, numbers in an annotation list, or nowhere. */
export type Labelling = "folders" | "numbers" | "none";

export interface ImageList {
  /** Below the split's folder or in its tar file, with forward slashes. */
  readonly names: readonly string[];
  /** Per name; -1 for no label. */
  readonly labels: readonly number[];
  /** Name of each label: the folder's or the number itself. */
  readonly classes: readonly string[];
  readonly labelling: Labelling;
}

/**
 * Makes a list of the files below one folder: a class per sub-folder, sorted by name, or no labels
 * if an image lies directly in it. Images are sorted by class, then by name. Other files are left
 * out.
 *
 * @param folders sub-folders known to exist; an empty one still is a class
 */
export function listByFolder(files: readonly string[], folders: readonly string[] = []): ImageList {
  const names = files.filter(isImageName).sort(compareNames);
  if (names.length === 0 || names.some((name) => !name.includes("/"))) {
    return { names, labels: names.map(() => -1), classes: [], labelling: "none" };
  }
  const classes = [...new Set([...folders, ...names.map(topFolder)])].sort();
  const labelOf = new Map(classes.map((name, label) => [name, label]));
  const labels = names.map((name) => labelOf.get(topFolder(name)) ?? -1);
  return { names, labels, classes, labelling: "folders" };
}

/**
 * Reads `path label` lines, as in mmpretrain's meta/train.txt. The label is the last word, if it is
 * a number; a line without one is an image without label. Order is kept.
 */
export function parseAnnotations(text: string): ImageList {
  const lines = text.split(/\r?\n/).map((line) => line.trim());
  const pairs = lines
    .filter((line) => line !== "")
    .map((line) => /^(?<name>.*\S)\s+(?<label>\d+)$/.exec(line)?.groups ?? { name: line });
  const labels = pairs.map((pair) => (pair["label"] === undefined ? -1 : Number(pair["label"])));
  const count = labels.reduce((most, label) => Math.max(most, label + 1), 0);
  return {
    names: pairs.map((pair) => pair["name"] ?? ""),
    labels,
    classes: Array.from({ length: count }, (_, label) => String(label)),
    labelling: count > 0 ? "numbers" : "none",
  };
}

/** Keeps `limit` images, spread evenly: number i of them is image floor(i N / limit). */
export function spreadEvenly(count: number, limit: number | undefined): number[] {
  const length = Math.min(count, limit ?? count);
  return Array.from({ length }, (_, i) => Math.floor((i * count) / length));
}

/** Empty for an image that lies in no sub-folder. */
function topFolder(name: string): string {
  return name.slice(0, Math.max(0, name.indexOf("/")));
}

/** By folder first, so that the images of a class stand together ("a/x" before "a-b/x"). */
function compareNames(a: string, b: string): number {
  const folderA = topFolder(a);
  const folderB = topFolder(b);
  if (folderA !== folderB) return folderA < folderB ? -1 : 1;
  return a < b ? -1 : a > b ? 1 : 0;
}
