/** The classes of ImageNet-1k by name, and what its folders are called. */

import { FleetError } from "../../proto/errors.ts";
import imagenet from "./imagenet-classes.json" with { type: "json" };

const NAME_OF_WNID: ReadonlyMap<string, string> = new Map(Object.entries(imagenet.classes));

/** Name of each label, in mmpretrain's order: that of the folders' names. */
export const IMAGENET_CLASSES: readonly string[] = [...NAME_OF_WNID.values()];

/** One name per line; empty lines at the end do not count. */
export function parseClassList(text: string): readonly string[] {
  return text
    .trimEnd()
    .split("\n")
    .map((line) => line.trim());
}

/**
 * Names of a classifier's outputs.
 *
 * Labels that were numbered in training have no names. 1000 outputs of which nothing is known are
 * taken for ImageNet's, as they are in every published ResNet.
 *
 * @param outputs undefined without a classifier, which then has no names
 * @param given by the user; it must name every output
 * @param known of the weights
 * @returns a name for each output, or undefined when none is known
 * @throws {FleetError} USAGE when `given` has another number of names
 */
export function nameOutputs(
  outputs: number | undefined,
  given: readonly string[] | undefined,
  known: readonly string[] | undefined,
): readonly string[] | undefined {
  if (outputs === undefined) return undefined;
  if (given) {
    if (given.length === outputs) return given;
    const problem = `${given.length} class names for ${outputs} outputs`;
    throw new FleetError("USAGE", `${problem}: there must be one for each`);
  }
  const isNumbered = known?.every((name, label) => name === String(label)) ?? true;
  if (known && !isNumbered && known.length === outputs) return namesOfFolders(known);
  return outputs === IMAGENET_CLASSES.length ? IMAGENET_CLASSES : undefined;
}

/** Replaces folder names such as n02123045 by names of classes, when all are ImageNet's. */
function namesOfFolders(classes: readonly string[]): readonly string[] {
  const names = classes.map((folder) => NAME_OF_WNID.get(folder));
  return names.every((name) => name !== undefined) ? names : classes;
}
