/** Weights of a tiny ResNet in files, and what float64 arithmetic makes of them. */

import { readFileSync } from "node:fs";
import path from "node:path";
import { planBackbone } from "../../../proto/model/backbone-plan.ts";
import { type InputRecipe, usualInput } from "../../../proto/model/input-view.ts";
import type { StageName } from "../../../proto/recipe.ts";
import { encodeSafetensors } from "../../../worker/checkpoint/safetensors.ts";
import { Canvas } from "../../../worker/data/augment/canvas.ts";
import { resizeCenterCrop } from "../../../worker/data/augment/resize.ts";
import { decodeImage } from "../../../worker/data/decode.ts";
import { inferFeatures } from "../../../worker/model/frozen-backbone.ts";
import { initialState } from "../../../worker/model/initial-state.ts";
import type { ModelState } from "../../../worker/model/model-state.ts";
import { ReferenceEngine } from "../../support/reference-engine.ts";
import type { SampleFolder } from "../data/sample-data.ts";
import { randomFloats, tinyRecipe, withRandomNorms, withTensor } from "../model/tiny-model.ts";

export const TINY_CLASSES = 3;

/** Weights of a stage's model, with norms that do something. */
export function tinyState(stage: StageName): ModelState {
  let state = withRandomNorms(initialState(tinyRecipe, stage, 1, TINY_CLASSES));
  for (const [index, [name, { data }]] of [...state.tensors].entries()) {
    const noise = randomFloats(1000 + index, data.length);
    const isVariance = name.endsWith(".running_var");
    if (!isVariance && !name.endsWith(".running_mean")) continue;
    const values = noise.map((value) => (isVariance ? 1 + 0.5 * value : 0.3 * value));
    state = withTensor(state, name, values);
  }
  return state;
}

/** Writes them as a file of safetensors and returns its path. */
export function writeTiny(
  folder: SampleFolder,
  name: string,
  state: ModelState,
  metadata: Readonly<Record<string, string>> = {},
): string {
  const tensors = [...state.tensors].map(
    ([tensor, { shape, data }]) => [tensor, { dtype: "F32", shape, data }] as const,
  );
  folder.write(name, Buffer.from(encodeSafetensors(new Map(tensors), metadata)));
  return path.join(folder.path, name);
}

/** Pooled features of an image file. */
export async function referenceFeatures(
  { tensors }: ModelState,
  file: string,
  input: InputRecipe = usualInput(tinyRecipe),
): Promise<Float64Array> {
  const { imageSize } = input;
  const canvas = new Canvas({ width: imageSize, height: imageSize });
  canvas.load(await decodeImage(readFileSync(file)));
  resizeCenterCrop(canvas, input.resizeEdge);
  const pixels = new Uint8Array(3 * imageSize ** 2);
  canvas.copyTo(pixels);
  const engine = new ReferenceEngine();
  const images = engine.uploadImages(pixels, [1, 3, imageSize, imageSize], input);
  const uploaded = new Map(
    [...tensors].map(([name, { data, shape }]) => [name, engine.upload(data, shape)]),
  );
  const pass = { engine, eps: tinyRecipe.normEps, tensorOf: (name: string) => uploaded.get(name)! };
  return engine.downloadExact(inferFeatures(pass, planBackbone(tinyRecipe), images));
}

/** The neck's embedding: fc1(relu(fc0 f)), each with its norm. */
export function referenceEmbedding(state: ModelState, features: Float64Array): Float64Array {
  const hidden = normed(state, "neck.bn0", multiply(state, "neck.fc0.weight", features));
  const rectified = hidden.map((value) => Math.max(0, value));
  return normed(state, "neck.bn1", multiply(state, "neck.fc1.weight", rectified));
}

/** Softmax of the linear classifier. */
export function referenceScores(state: ModelState, features: Float64Array): Float64Array {
  const bias = state.tensors.get("head.fc.bias")!.data;
  const powers = multiply(state, "head.fc.weight", features).map((value, k) =>
    Math.exp(value + bias[k]!),
  );
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

function multiply({ tensors }: ModelState, name: string, vector: Float64Array): Float64Array {
  const { shape, data } = tensors.get(name)!;
  return Float64Array.from({ length: shape[0]! }, (_, row) =>
    vector.reduce((sum, value, column) => sum + value * data[row * vector.length + column]!, 0),
  );
}

function normed({ tensors }: ModelState, norm: string, values: Float64Array): Float64Array {
  const of = (name: string): Float32Array => tensors.get(`${norm}.${name}`)!.data;
  return values.map((value, k) => {
    const scale = of("weight")[k]! / Math.sqrt(of("running_var")[k]! + tinyRecipe.normEps);
    return (value - of("running_mean")[k]!) * scale + of("bias")[k]!;
  });
}
