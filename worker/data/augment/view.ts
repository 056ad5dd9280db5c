/**
 * The random views of an image: which operations, in which order, with which parameters.
 *
 * Distributions and order are mmpretrain's SimCLR pipeline (RandomResizedCrop, RandomFlip,
 * ColorJitter, RandomGrayscale, GaussianBlur); every draw comes from the stream that the caller
 * passes, so the stream alone decides the view.
 */

import type { AugmentationRecipe, LinearRecipe } from "../../../proto/recipe.ts";
import type { RandomStream } from "../random-stream.ts";
import { gaussianBlur } from "./blur.ts";
import { adjustBrightness, adjustContrast, adjustSaturation, toGrayscale } from "./colour.ts";
import { flipHorizontal } from "./flip.ts";
import { adjustHue } from "./hue.ts";
import { cropResize, resizeCenterCrop } from "./resize.ts";
import type { Box, RgbImage } from "./rgb-image.ts";
import { roundHalfEven } from "./rounding.ts";

const CROP_ATTEMPTS = 10;

type CropRecipe = AugmentationRecipe["crop"];
type JitterRecipe = AugmentationRecipe["jitter"];

/**
 * One view for contrastive pre-training.
 *
 * @param target receives the pixels when given; `size` x `size`
 */
export function augmentView(
  image: RgbImage,
  recipe: AugmentationRecipe,
  size: number,
  random: RandomStream,
  target?: RgbImage,
): RgbImage {
  const view = cropResize(image, drawCrop(image, recipe.crop, random), size, target);
  if (random.chance(recipe.flip)) flipHorizontal(view);
  if (random.chance(recipe.jitter.probability)) jitter(view, recipe.jitter, random);
  if (random.chance(recipe.grayscale)) toGrayscale(view);
  if (random.chance(recipe.blur.probability)) {
    gaussianBlur(view, random.uniform(...recipe.blur.sigma));
  }
  return view;
}

/** The view that the linear classifier trains on: random crop and flip. */
export function linearTrainView(
  image: RgbImage,
  recipe: Pick<LinearRecipe, "crop" | "flip">,
  size: number,
  random: RandomStream,
  target?: RgbImage,
): RgbImage {
  const view = cropResize(image, drawCrop(image, recipe.crop, random), size, target);
  if (random.chance(recipe.flip)) flipHorizontal(view);
  return view;
}

/** The view that accuracy is measured on: short edge to `resizeEdge`, then the centre. */
export function validationView(
  image: RgbImage,
  recipe: { readonly resizeEdge: number },
  size: number,
  target?: RgbImage,
): RgbImage {
  return resizeCenterCrop(image, { edge: recipe.resizeEdge, size }, target);
}

/** A box of random area and shape; after ten that do not fit, the largest allowed centred one. */
export function drawCrop(
  { width, height }: { readonly width: number; readonly height: number },
  { scale, ratio }: CropRecipe,
  random: RandomStream,
): Box {
  for (let attempt = 0; attempt < CROP_ATTEMPTS; attempt++) {
    const area = random.uniform(...scale) * width * height;
    const aspect = Math.exp(random.uniform(Math.log(ratio[0]), Math.log(ratio[1])));
    const w = roundHalfEven(Math.sqrt(area * aspect));
    const h = roundHalfEven(Math.sqrt(area / aspect));
    if (0 < w && w <= width && 0 < h && h <= height) {
      const y = random.below(height - h + 1);
      const x = random.below(width - w + 1);
      return { x, y, width: w, height: h };
    }
  }
  const aspect = width / height;
  // An extreme ratio of an extreme image could round a side to nothing.
  const w = aspect > ratio[1] ? Math.max(1, roundHalfEven(height * ratio[1])) : width;
  const h = aspect < ratio[0] ? Math.max(1, roundHalfEven(width / ratio[0])) : height;
  const x = Math.floor((width - w) / 2);
  const y = Math.floor((height - h) / 2);
  return { x, y, width: w, height: h };
}

/** Brightness, contrast, saturation and hue in random order; a strength of 0 leaves one out. */
function jitter(view: RgbImage, recipe: JitterRecipe, random: RandomStream): void {
  const factor = (strength: number): number =>
    random.uniform(Math.max(0, 1 - strength), 1 + strength);
  for (const operation of random.permutation(4)) {
    if (operation === 0 && recipe.brightness > 0) {
      adjustBrightness(view, factor(recipe.brightness));
    } else if (operation === 1 && recipe.contrast > 0) {
      adjustContrast(view, factor(recipe.contrast));
    } else if (operation === 2 && recipe.saturation > 0) {
      adjustSaturation(view, factor(recipe.saturation));
    } else if (operation === 3 && recipe.hue > 0) {
      adjustHue(view, random.uniform(-recipe.hue, recipe.hue));
    }
  }
}
