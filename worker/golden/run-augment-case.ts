/**
 * Every augmentation on one image, compared with Pillow's results. Errors are in levels of 0..255.
 */

import { FleetError } from "../../proto/errors.ts";
import { gaussianBlur } from "../data/augment/blur.ts";
import { Canvas } from "../data/augment/canvas.ts";
import {
  adjustBrightness,
  adjustContrast,
  adjustSaturation,
  toGrayscale,
} from "../data/augment/colour.ts";
import { adjustHue } from "../data/augment/hue.ts";
import { cropResize, resizeCenterCrop, shortEdgeSize } from "../data/augment/resize.ts";
import type { RgbImage, Size } from "../data/augment/rgb-image.ts";
import type { Deviations } from "./deviations.ts";
import { type AugmentCase, type GoldenTensors, requireTensor } from "./golden-folder.ts";

interface Tolerance {
  readonly max: number;
  readonly mean: number;
}

const RESAMPLED: Tolerance = { max: 2, mean: 0.5 };
const POINTWISE: Tolerance = { max: 1, mean: 1 };

/** Changes a view in place. */
const ADJUSTMENTS: Readonly<Record<string, (canvas: Canvas, amount: number) => void>> = {
  brightness: adjustBrightness,
  contrast: adjustContrast,
  saturation: adjustSaturation,
  hue: adjustHue,
  blur: gaussianBlur,
};

/** @throws {FleetError} DATA_INVALID when the case lacks a parameter or has an unknown result */
export function runAugmentCase(
  spec: AugmentCase,
  tensors: GoldenTensors,
  deviations: Deviations,
): void {
  const source = imageOf(tensors, "rgb");
  for (const name of tensors.keys()) {
    if (name === "rgb") continue;
    const expected = imageOf(tensors, name);
    const { kind, result } = augment(source, name, spec);
    const tolerance =
      kind === "crop" || kind === "blur" || kind === "resizeEdge" ? RESAMPLED : POINTWISE;
    const { max, mean } = compare(result, expected);
    const where = name;
    deviations.add({ quantity: `${kind} max`, error: max, tolerance: tolerance.max, where });
    deviations.add({ quantity: `${kind} mean`, error: mean, tolerance: tolerance.mean, where });
  }
}

function augment(
  source: RgbImage,
  name: string,
  spec: AugmentCase,
): { readonly kind: string; readonly result: RgbImage } {
  const [, kind = "", number] = /^([A-Za-z]+)(\d*)$/.exec(name) ?? [];
  if (kind === "gray") return { kind, result: paint(source, source, toGrayscale) };
  if (kind === "resizeEdge") {
    const edge = Number(number);
    const whole = shortEdgeSize(source, edge);
    return { kind, result: paint(source, whole, (canvas) => resizeCenterCrop(canvas, edge)) };
  }
  const parameter = spec[name];
  if (kind === "crop" && typeof parameter === "object") {
    const size = { width: parameter.size, height: parameter.size };
    return { kind, result: paint(source, size, (canvas) => cropResize(canvas, parameter)) };
  }
  const change = ADJUSTMENTS[kind];
  if (!change || typeof parameter !== "number") {
    throw new FleetError("DATA_INVALID", `${name} is no augmentation that is known`);
  }
  return { kind, result: paint(source, source, (canvas) => change(canvas, parameter)) };
}

/** The view of that size after `work`; before it, the source itself where the sizes are equal. */
function paint(source: RgbImage, size: Size, work: (canvas: Canvas) => void): RgbImage {
  const canvas = new Canvas({ width: size.width, height: size.height });
  canvas.load(source);
  if (size === source) canvas.setImage(source);
  work(canvas);
  return canvas.toImage();
}

function imageOf(tensors: GoldenTensors, name: string): RgbImage {
  const { shape, data } = requireTensor(tensors, name);
  const [height, width, channels] = shape;
  if (!(data instanceof Uint8Array) || channels !== 3 || !height || !width) {
    throw new FleetError("DATA_INVALID", `${name} is no 8-bit RGB image`);
  }
  return { width, height, data };
}

function compare(
  actual: RgbImage,
  expected: RgbImage,
): { readonly max: number; readonly mean: number } {
  if (actual.width !== expected.width || actual.height !== expected.height) {
    return { max: Number.NaN, mean: Number.NaN };
  }
  let max = 0;
  let sum = 0;
  for (const [k, value] of actual.data.entries()) {
    const difference = Math.abs(value - expected.data[k]!);
    max = Math.max(max, difference);
    sum += difference;
  }
  return { max, mean: sum / actual.data.length };
}
