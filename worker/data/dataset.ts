/**
 * A data set as the loaders see it: a numbered list of encoded images, each with a label.
 *
 * Everything that grows with the number of images lies in shared memory, so that handing the data
 * set to a thread copies nothing.
 */

import path from "node:path";
import type { DataRecipe } from "../../proto/recipe.ts";
import type { Labelling } from "./index/image-list.ts";
import type { IndexProgress } from "./index/index-watch.ts";
import { nameText } from "./index/name-list.ts";
import { runIndexThread } from "./index/run-index-thread.ts";
import { invalidData, type SplitName } from "./invalid-data.ts";

/** Smaller data sets are indexed sooner than anybody notices: no files are left beside them. */
const KEPT_FROM = 10_000;

/** Where the bytes of the images are. */
export type Storage =
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
  readonly nameEnd: Uint32Array<SharedArrayBuffer>;
  readonly storage: Storage;
}

export interface OpenDatasetOptions {
  /** Where the index is kept when it cannot be written beside the data. */
  readonly indexFolder?: string;
  /** Ends the work; the promise rejects at once, with its reason. */
  readonly signal?: AbortSignal;
  /** Is called several times a second while files are listed, from some time on. */
  readonly onProgress?: (progress: IndexProgress) => void;
  /** The index can be kept nowhere, for this reason: the next start has to make it again. */
  readonly onNotKept?: (reason: string) => void;
}

/**
 * Lists the images of one split, or finds the list that an earlier start has kept. Does not block:
 * a thread does the work.
 *
 * @throws {FleetError} DATA_INVALID naming the path and what was expected there
 */
export async function openDataset(
  data: DataRecipe,
  split: SplitName,
  options: OpenDatasetOptions = {},
): Promise<Dataset> {
  const { path: where, annotations, limit } = data[split];
  const { indexFolder, signal, onProgress = () => {}, onNotKept } = options;
  const location = path.resolve(data.root, where);
  const folders = [path.dirname(location), ...(indexFolder === undefined ? [] : [indexFolder])];
  const { dataset, notKept } = await runIndexThread(
    {
      split,
      location,
      annotations: annotations === undefined ? undefined : path.resolve(data.root, annotations),
      limit,
      folders,
      keptFrom: KEPT_FROM,
    },
    { signal, onProgress },
  );
  if (notKept !== undefined) onNotKept?.(notKept);
  return dataset;
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
      throw invalidData(dataset.split, `${dataset.location} has images without label; ${expected}`);
    }
    const found = dataset.classes.length;
    if (found > classes || (found < classes && dataset.labelling === "folders")) {
      const problem = `${dataset.location} has ${found} classes, the recipe has ${classes}`;
      throw invalidData(dataset.split, `${problem} (linear.classes)`);
    }
  }
  if (train.labelling !== "folders" || val.labelling !== "folders") return;
  const stranger = val.classes.find((name, label) => train.classes[label] !== name);
  if (stranger !== undefined) {
    const problem = `the class folders of ${val.location} are not those of ${train.location}`;
    throw invalidData("val", `${problem}: ${stranger} is missing there or has another number`);
  }
}

/** Name of an image within its folder or tar file. */
function entryName({ nameBytes, nameEnd }: Dataset, index: number): string {
  return nameText({ bytes: nameBytes, end: nameEnd }, index);
}
