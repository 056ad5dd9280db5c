/** The images that a stage needs, as this rank finds them. */

import type { Recipe, StageName } from "../../proto/recipe.ts";
import { checkClasses, type Dataset } from "../data/dataset.ts";
import type { SplitName } from "../data/invalid-data.ts";
import { findMonitorData, type MonitorData } from "./monitor-data.ts";

export interface StageData {
  readonly train: Dataset;
  /** Linear stage only. */
  readonly validation: Dataset | undefined;
  /** Pre-training only. */
  readonly monitor: MonitorData | undefined;
}

/**
 * @param open of one split
 * @throws {FleetError} DATA_INVALID; what `open` was ended early with
 */
export async function openStageData(
  recipe: Recipe,
  stage: StageName,
  open: (split: SplitName) => Promise<Dataset>,
): Promise<StageData> {
  const train = await open("train");
  if (stage === "pretrain") {
    return { train, validation: undefined, monitor: await findMonitorData(recipe, train, open) };
  }
  const validation = await open("val");
  checkClasses(train, validation, recipe.linear.classes);
  return { train, validation, monitor: undefined };
}

/** What must be the same on all ranks for a stage to be monitored; zeros without a monitor. */
export function monitorFacts({ monitor }: StageData): readonly [images: number, classes: number] {
  return monitor?.type === "usable" ? [monitor.val.count, monitor.classes] : [0, 0];
}
