/** Puts a picture where the user wants it: a whole file, or none. */

import { rename, rm, stat, writeFile } from "node:fs/promises";
import path from "node:path";
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
  await writeWhole(file, isSvg(file) ? svg : await rasterise(svg));
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

/**
 * Writes a file under another name beside its place, and renames it when it is whole.
 *
 * @throws {FleetError} STORAGE_FAILED
 */
export async function writeWhole(file: string, contents: string | Uint8Array): Promise<void> {
  const temporary = path.join(path.dirname(file), `.${path.basename(file)}.writing`);
  try {
    await writeFile(temporary, contents);
    await rename(temporary, file);
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => {
      // The first error is the one that people must see.
    });
    const reason = FleetError.from(cause).message;
    throw new FleetError("STORAGE_FAILED", `cannot write ${file}: ${reason}`, {}, cause);
  }
}
