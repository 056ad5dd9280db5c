/** Puts a picture where the user wants it: a whole file, or none. */

import { stat } from "node:fs/promises";
import path from "node:path";
import { writeAtomically } from "../durable-file.ts";
import { FleetError } from "../errors.ts";
import { type Chart, drawChart } from "./draw-chart.ts";
import { rasterise } from "./rasterise.ts";

/**
 * Draws a chart into a file: SVG when its name ends in .svg, else PNG.
 *
 * @throws {FleetError} STORAGE_FAILED
 */
export async function writeChart(file: string, chart: Chart): Promise<void> {
  const svg = drawChart(chart);
  const picture = isSvg(file) ? Buffer.from(svg) : await rasterise(svg);
  writeAtomically(file, [picture], () => file);
}

/**
 * Makes sure that a picture can go there, before the work for it begins.
 *
 * @throws {FleetError} USAGE for another kind of file, NOT_FOUND when its folder does not exist
 */
export async function checkPicturePath(file: string): Promise<void> {
  if (!/\.(png|svg)$/i.test(file)) {
    throw new FleetError("USAGE", `--out ${file} must end in .png or .svg`);
  }
  const folder = path.dirname(path.resolve(file));
  const found = await stat(folder).catch(() => undefined);
  if (found?.isDirectory()) return;
  const problem = found === undefined ? "does not exist" : "is not a folder";
  throw new FleetError("NOT_FOUND", `cannot write ${file}: ${folder} ${problem}`);
}

function isSvg(file: string): boolean {
  return /\.svg$/i.test(file);
}
