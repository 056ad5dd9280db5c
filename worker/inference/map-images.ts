/** Runs a model over images, batch by batch; one that cannot be read does not stop the others. */

import { FleetError } from "../../proto/errors.ts";
import { Canvas } from "../data/augment/canvas.ts";
import { resizeCenterCrop } from "../data/augment/resize.ts";
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
  const { imageSize, resizeEdge } = model.input;
  const canvas = new Canvas({ width: imageSize, height: imageSize });
  const prepare = (begin: number): Promise<Prepared[]> => {
    const batch = listed.slice(begin, begin + batchSize);
    return Promise.all(batch.map((image) => prepared(image, canvas, resizeEdge)));
  };

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

async function prepared(image: NamedImage, canvas: Canvas, resizeEdge: number): Promise<Prepared> {
  try {
    canvas.load(await image.read());
    resizeCenterCrop(canvas, resizeEdge);
    const value = new Uint8Array(3 * canvas.width * canvas.height);
    canvas.copyTo(value);
    return { type: "done", image: image.name, value };
  } catch (thrown) {
    return { type: "unreadable", image: image.name, error: FleetError.from(thrown) };
  }
}
