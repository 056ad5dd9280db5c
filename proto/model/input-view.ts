/**
 * How an image becomes the input of a model that is not being trained: short edge to `resizeEdge`,
 * the centre square of `imageSize`, then (pixel - mean) / std per channel.
 */

import { z } from "zod";
import type { ModelRecipe, Recipe } from "../recipe.ts";

const size = z.int().positive();
const rgb = z.tuple([z.number(), z.number(), z.number()]);

export const inputSchema = z
  .strictObject({
    imageSize: size,
    resizeEdge: size,
    mean: rgb.describe("RGB, on the 0..255 scale."),
    std: rgb,
  })
  .refine(({ imageSize, resizeEdge }) => imageSize <= resizeEdge, {
    path: ["resizeEdge"],
    error: "must not be less than imageSize",
  });

export type InputRecipe = z.output<typeof inputSchema>;

/** As the recipe's linear stage is validated. */
export function inputOf({ data, linear }: Pick<Recipe, "data" | "linear">): InputRecipe {
  const { imageSize, mean, std } = data;
  return { imageSize, resizeEdge: linear.validation.resizeEdge, mean, std };
}

/** What weights of unknown origin most likely saw: ImageNet, or CIFAR-10 behind a cifar stem. */
export function usualInput({ stem }: ModelRecipe): InputRecipe {
  return stem === "imagenet"
    ? {
        imageSize: 224,
        resizeEdge: 256,
        mean: [123.675, 116.28, 103.53],
        std: [58.395, 57.12, 57.375],
      }
    : {
        imageSize: 32,
        resizeEdge: 32,
        mean: [125.307, 122.961, 113.8575],
        std: [51.5865, 50.847, 51.255],
      };
}
