/** Leaves a stage's confusion matrix beside its result, for tools and for people. */

import path from "node:path";
import { writeChart } from "../../proto/charts/write-chart.ts";
import { writeAtomically } from "../../proto/durable-file.ts";
import { confusionChart } from "./confusion-chart.ts";
import { confusionMatrix, formatConfusion } from "./confusion-matrix.ts";

/**
 * Writes `confusion.json` and `confusion.png`.
 *
 * @param counts images by true and predicted class, row by row
 * @throws {FleetError} STORAGE_FAILED
 */
export async function writeConfusion(
  folder: string,
  about: { readonly recipe: string; readonly classes: readonly string[] },
  counts: Int32Array,
): Promise<void> {
  const matrix = confusionMatrix(about.recipe, about.classes, counts);
  const file = path.join(folder, "confusion.json");
  writeAtomically(file, [Buffer.from(formatConfusion(matrix))], () => file);
  await writeChart(path.join(folder, "confusion.png"), await confusionChart(matrix));
}
