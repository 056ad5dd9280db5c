/** `coordinator demo --images-only`: the demo's data set, for a fleet that runs already. */

import path from "node:path";
import { type CliContext, printJson } from "../../proto/cli/cli-context.ts";
import { FleetError } from "../../proto/errors.ts";
import { demo } from "../../proto/recipes/demo.ts";
import { DEMO_SIZE, writeDataset } from "./dataset.ts";
import type { DemoOptions } from "./demo.ts";
import { PATTERN_NAMES } from "./pattern.ts";

/**
 * Images that are there already are drawn anew, to the same pixels for the same seed.
 *
 * @throws {FleetError} STORAGE_FAILED
 */
export async function drawImages(
  { dir, seed, json }: DemoOptions,
  context: CliContext,
): Promise<void> {
  const folder = path.resolve(dir ?? demo.data.root);
  try {
    await writeDataset(folder, seed, DEMO_SIZE);
  } catch (cause) {
    const reason = FleetError.from(cause).message;
    throw new FleetError("STORAGE_FAILED", `cannot draw into ${folder}: ${reason}`, {}, cause);
  }
  const images = PATTERN_NAMES.length * (DEMO_SIZE.trainPerClass + DEMO_SIZE.valPerClass);
  if (json) return printJson(context, { folder, images });
  context.stdout.write(
    `drew ${images} images into ${folder}; train on them with\n` +
      `  coordinator submit ${demo.name} --set data.root=${folder} --watch\n`,
  );
}
