/** Runs a model over images, batch by batch; one that cannot be read does not stop the others. */

import { FleetError } from "../../proto/errors.ts";
import { createImage } from "../data/augment/rgb-image.ts";
import { validationView } from "../data/augment/view.ts";
import { type ImageInput, listImages, type NamedImage } from "./image-input.ts";
import type { ModelOutput, OpenModel } from "./open-model.ts";

export interface BatchOptions {
  /** Images that are computed at once; 16 when absent. Results do not depend on it. */
  readonly batchSize?: number;
}

/** What became of one image. */
export type ImageOutcome<T> =
  | { readonly type: "done"; readonly image: string; readonly value: T }
  | { readonly type: "unreadable"; readonly image: string; readonly error: FleetError };

/** An image as planes of the model's input size, or why there are none. */
type Prepared = ImageOutcome<Uint8Array>;

const DEFAULT_BATCH_SIZE = 16;

/**
 * Computes one output of every image and hands the rows out in the images' order. Images of the
 * next batch are decoded while the engine computes.
 *
 * @throws {FleetError} USAGE for a bad batch size
 */
export async function* mapImages(
  model: OpenModel,
  images: readonly ImageInput[],
  output: ModelOutput,
  { batchSize = DEFAULT_BATCH_SIZE }: BatchOptions,
): AsyncGenerator<ImageOutcome<Float32Array>> {
  if (!Number.isInteger(batchSize) || batchSize < 1) {
    throw new FleetError("USAGE", `the batch size must be a whole number, not ${batchSize}`);
  }
  const listed = await listImages(images);
  const prepare = (begin: number): Promise<Prepared[]> =>
    Promise.all(listed.slice(begin, begin + batchSize).map((image) => prepared(model, image)));

  let next = prepare(0);
  for (let begin = 0; begin < listed.length; begin += batchSize) {
    const batch = await next;
    next = prepare(begin + batchSize);
    yield* runBatch(model, batch, output);
  }
}

/** The values of all images. @throws {FleetError} DATA_INVALID naming the first unreadable one */
export async function collect<T>(outcomes: AsyncIterable<ImageOutcome<T>>): Promise<T[]> {
  const values: T[] = [];
  for await (const outcome of outcomes) {
    if (outcome.type === "unreadable") throw outcome.error;
    values.push(outcome.value);
  }
  return values;
}

function runBatch(
  model: OpenModel,
  batch: readonly Prepared[],
  output: ModelOutput,
): ImageOutcome<Float32Array>[] {
  const views = batch.flatMap((image) => (image.type === "done" ? [image.value] : []));
  const rows = views.length > 0 ? model.run(Buffer.concat(views), output) : new Float32Array();
  const width = model.widths[output]!;
  let row = 0;
  return batch.map((image) => {
    if (image.type === "unreadable") return image;
    const begin = width * row++;
    return { ...image, value: rows.slice(begin, begin + width) };
  });
}

async function prepared({ input }: OpenModel, image: NamedImage): Promise<Prepared> {
  try {
    const target = createImage(input.imageSize, input.imageSize);
    validationView(await image.read(), input, input.imageSize, target);
    return { type: "done", image: image.name, value: toPlanes(target.data) };
  } catch (thrown) {
    return { type: "unreadable", image: image.name, error: FleetError.from(thrown) };
  }
}

/** Interleaved channels to one plane per channel. */
function toPlanes(interleaved: Uint8Array): Uint8Array {
  const planes = new Uint8Array(interleaved.length);
  const plane = interleaved.length / 3;
  for (let i = 0, from = 0; i < plane; i++, from += 3) {
    planes[i] = interleaved[from]!;
    planes[plane + i] = interleaved[from + 1]!;
    planes[2 * plane + i] = interleaved[from + 2]!;
  }
  return planes;
}
