/** Classifies images, as mmpretrain's `inference_model` does. */

import { FleetError } from "../../proto/errors.ts";
import { type GetModelOptions, getModel } from "./get-model.ts";
import { type ImageInput, isList, toList } from "./image-input.ts";
import { type BatchOptions, collect, type ImageOutcome, mapImages } from "./map-images.ts";
import { findCard, listModels } from "./model-zoo.ts";
import type { OpenModel } from "./open-model.ts";

/** Keys and meanings are mmpretrain's. */
export interface Prediction {
  /** The class with the highest score. */
  readonly pred_label: number;
  readonly pred_score: number;
  /** Softmax over all classes. */
  readonly pred_scores: Float32Array;
  /** Present when the names of the classes are known. */
  readonly pred_class?: string;
}

export interface InferenceOptions extends GetModelOptions, BatchOptions {}

/**
 * Classifies one image, or each of a list, in which a folder stands for all images below it.
 *
 * @param model an open model, which stays open; or what {@link getModel} opens, for this call only
 * @throws {FleetError} DATA_INVALID naming an image that cannot be read; USAGE for a model without
 *   a classifier; whatever {@link getModel} throws
 */
export async function inferenceModel(
  model: OpenModel | string,
  image: ImageInput,
  options?: InferenceOptions,
): Promise<Prediction>;
export async function inferenceModel(
  model: OpenModel | string,
  images: readonly ImageInput[],
  options?: InferenceOptions,
): Promise<Prediction[]>;
export async function inferenceModel(
  model: OpenModel | string,
  images: ImageInput | readonly ImageInput[],
  options: InferenceOptions = {},
): Promise<Prediction | Prediction[]> {
  const list = await toList(images);
  if (typeof model === "string" && typeof options.pretrained !== "string") {
    refusePretraining(model);
  }
  const opened =
    typeof model === "string" ? await getModel(model, { pretrained: true, ...options }) : model;
  try {
    const predictions = await collect(streamPredictions(opened, list, options));
    return isList(images) ? predictions : predictions[0]!;
  } finally {
    if (opened !== model) opened.close();
  }
}

/**
 * Classifies images one batch at a time; one that cannot be read is reported as such.
 *
 * @throws {FleetError} USAGE for a model without a classifier
 */
export async function* streamPredictions(
  model: OpenModel,
  images: readonly ImageInput[],
  options: BatchOptions = {},
): AsyncGenerator<ImageOutcome<Prediction>> {
  if (model.widths.logits === undefined) throw withoutClassifier(model.name);
  for await (const outcome of mapImages(model, images, "logits", options)) {
    yield outcome.type === "done"
      ? { ...outcome, value: toPrediction(outcome.value, model.classes) }
      : outcome;
  }
}

function toPrediction(logits: Float32Array, classes: OpenModel["classes"]): Prediction {
  const pred_scores = softmax(logits);
  const pred_score = pred_scores.reduce((most, score) => Math.max(most, score), 0);
  const pred_label = Math.max(0, pred_scores.indexOf(pred_score));
  const pred_class = classes?.[pred_label];
  return {
    pred_label,
    pred_score,
    pred_scores,
    ...(pred_class === undefined ? {} : { pred_class }),
  };
}

/** exp(x - max) / sum, in float64 and rounded once. */
function softmax(logits: Float32Array): Float32Array {
  const highest = logits.reduce((most, value) => Math.max(most, value), Number.NEGATIVE_INFINITY);
  const powers = Float64Array.from(logits, (value) => Math.exp(value - highest));
  const sum = powers.reduce((total, power) => total + power, 0);
  return Float32Array.from(powers, (power) => power / sum);
}

/**
 * Refuses the name of a pre-trained backbone, before weights are asked for that would not help.
 *
 * @throws {FleetError} USAGE
 */
export function refusePretraining(name: string): void {
  if (findCard(name)?.task === "null") throw withoutClassifier(name);
}

function withoutClassifier(name: string): FleetError {
  const classifiers = listModels("*", { task: "Image Classification" });
  return new FleetError(
    "USAGE",
    `${name} has no classifier, so it predicts nothing; extract its features, or take a linear ` +
      `model (${classifiers.join(", ")}) or a checkpoint of a linear stage`,
  );
}
