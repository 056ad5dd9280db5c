/** What a pre-training can be judged on: its labels and a validation split, if it has them. */

import { FleetError } from "../../proto/errors.ts";
import type { Recipe } from "../../proto/recipe.ts";
import { checkClasses, type Dataset } from "../data/dataset.ts";

export type MonitorData =
  | { readonly type: "usable"; readonly val: Dataset; readonly classes: number }
  | { readonly type: "none"; readonly because: string };

/**
 * Looks for what the monitor needs. Pre-training works without, so that data it lacks is no error.
 *
 * @param open the validation split
 * @throws what `open` was ended early with
 */
export async function findMonitorData(
  recipe: Recipe,
  train: Dataset,
  open: (split: "val") => Promise<Dataset>,
): Promise<MonitorData> {
  const { knn, probe } = recipe.pretrain.monitor;
  if (!knn.enabled && !probe.enabled) return none("the recipe has both switched off");
  const classes = train.classes.length;
  if (classes < 2) return none(`${train.location} has no labels of different classes`);
  try {
    const val = await open("val");
    checkClasses(train, val, classes);
    return { type: "usable", val, classes };
  } catch (thrown) {
    const { code, message } = FleetError.from(thrown);
    if (code !== "DATA_INVALID") throw thrown;
    return none(message);
  }
}

function none(because: string): MonitorData {
  return { type: "none", because };
}
