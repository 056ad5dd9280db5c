/** Some images of some classes, the same ones every time. Pure. */

import { FleetError } from "../../proto/errors.ts";
import type { Dataset } from "../data/dataset.ts";

export interface ImageChoice {
  /** Classes to take, by name; the first ones when absent. */
  readonly classes: readonly string[] | undefined;
  readonly classesMax: number;
  /** Per class, spread evenly over its images. */
  readonly imagesMax: number;
}

export interface ChosenImages {
  /** Numbers in the data set, class by class. */
  readonly indices: readonly number[];
  /** Per index: which of `classes`. */
  readonly labels: readonly number[];
  /** Names of the classes that have images. */
  readonly classes: readonly string[];
}

/** @throws {FleetError} DATA_INVALID without labels, NOT_FOUND naming a class that is not there */
export function chooseImages(dataset: Dataset, choice: ImageChoice): ChosenImages {
  const { classes: known, labels, location } = dataset;
  if (dataset.labelling === "none") {
    const expected = "expected a folder per class, or annotations with labels";
    throw new FleetError("DATA_INVALID", `${location} has no labels; ${expected}`);
  }
  const byLabel = new Map<number, number[]>();
  for (const [index, label] of labels.entries()) {
    const images = byLabel.get(label);
    if (images === undefined) byLabel.set(label, [index]);
    else images.push(index);
  }
  const wanted = choice.classes?.map((name) => labelOf(known, name)) ?? [...known.keys()];
  const taken = wanted.filter((label) => byLabel.has(label)).slice(0, choice.classesMax);
  const perClass = taken.map((label) => spread(byLabel.get(label) ?? [], choice.imagesMax));
  return {
    indices: perClass.flat(),
    labels: perClass.flatMap((images, k) => images.map(() => k)),
    classes: taken.map((label) => known[label] ?? String(label)),
  };
}

function labelOf(known: readonly string[], name: string): number {
  const label = known.indexOf(name);
  if (label >= 0) return label;
  const some = known.slice(0, 10).join(", ");
  throw new FleetError("NOT_FOUND", `there is no class ${name}; there is ${some}`);
}

function spread(images: readonly number[], most: number): number[] {
  const length = Math.min(images.length, most);
  return Array.from({ length }, (_, i) => images[Math.floor((i * images.length) / length)]!);
}
