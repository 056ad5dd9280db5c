/** What a model makes of images before any classifier: pooled features, or embeddings. */

import { FleetError } from "../../proto/errors.ts";
import { type ImageInput, isList, toList } from "./image-input.ts";
import { type BatchOptions, collect, type ImageOutcome, mapImages } from "./map-images.ts";
import type { ModelOutput, OpenModel } from "./open-model.ts";

/**
 * `backbone`: features of the last feature map, averaged over its pixels, as linear evaluation and
 * nearest neighbours use them. `neck`: the projection neck's embeddings, not normalised; in a
 * linear model, whose neck is that average, the features.
 */
export type FeatureStage = "backbone" | "neck";

export interface FeatureOptions extends BatchOptions {
  /** `backbone` when absent. */
  readonly stage?: FeatureStage;
}

/**
 * Extracts the features of one image, or of each of a list, in which a folder stands for all images
 * below it.
 *
 * @throws {FleetError} DATA_INVALID naming an image that cannot be read; USAGE when the model has
 *   no neck
 */
export async function extractFeatures(
  model: OpenModel,
  image: ImageInput,
  options?: FeatureOptions,
): Promise<Float32Array>;
export async function extractFeatures(
  model: OpenModel,
  images: readonly ImageInput[],
  options?: FeatureOptions,
): Promise<Float32Array[]>;
export async function extractFeatures(
  model: OpenModel,
  images: ImageInput | readonly ImageInput[],
  options: FeatureOptions = {},
): Promise<Float32Array | Float32Array[]> {
  const list = await toList(images);
  const rows = await collect(streamFeatures(model, list, options));
  return isList(images) ? rows : rows[0]!;
}

/** Extracts features one batch at a time; an image that cannot be read is reported as such. */
export async function* streamFeatures(
  model: OpenModel,
  images: readonly ImageInput[],
  { stage = "backbone", ...options }: FeatureOptions = {},
): AsyncGenerator<ImageOutcome<Float32Array>> {
  yield* mapImages(model, images, outputOf(model, stage), options);
}

function outputOf({ name, widths }: OpenModel, stage: FeatureStage): ModelOutput {
  if (stage === "backbone") return "features";
  if (stage !== "neck") {
    throw new FleetError("USAGE", `there is no stage "${String(stage)}"; choose backbone or neck`);
  }
  if (widths.embeddings !== undefined) return "embeddings";
  if (widths.logits !== undefined) return "features";
  throw new FleetError("USAGE", `${name} has no projection neck; extract stage backbone`);
}
