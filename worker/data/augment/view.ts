/**
 * The random views of an image: which operations, in which order, with which parameters.
 *
 * Distributions and order are mmpretrain's SimCLR pipeline (RandomResizedCrop, RandomFlip,
 * ColorJitter, RandomGrayscale, GaussianBlur; spec section 1.2). Channels are red, green, blue.
 * What a view will be is drawn first, from the size of the image and a stream of random numbers
 * alone, and in this order:
 *
 * ```
 * crop       up to 10 times: area, logarithm of the ratio; of the first that fits: y, x
 * flip       one number: below the probability or not
 * jitter     one for whether; if so, 3 for the order; then a factor for each in that order
 * grayscale  one
 * blur       one for whether; if so, one for sigma
 * ```
 *
 * Every operation rounds to 8 bits as Pillow's does, so a view equals what Pillow makes of the same
 * parameters bit for bit.
 */

import type { AugmentationRecipe, LinearRecipe } from "../../../proto/recipe.ts";
import type { RandomStream } from "../random-stream.ts";
import { gaussianBlur } from "./blur.ts";
import type { Canvas } from "./canvas.ts";
import { adjustBrightness, adjustContrast, adjustSaturation, toGrayscale } from "./colour.ts";
import { adjustHue } from "./hue.ts";
import { cropResize } from "./resize.ts";
import type { Box, Size } from "./rgb-image.ts";
import { roundHalfEven } from "./rounding.ts";

const CROP_ATTEMPTS = 10;

type CropRecipe = AugmentationRecipe["crop"];
type JitterRecipe = AugmentationRecipe["jitter"];

/** A change of the view in place. */
export type Adjustment =
  | { readonly type: "brightness" | "contrast" | "saturation"; readonly factor: number }
  | { readonly type: "hue"; readonly turn: number }
  | { readonly type: "grayscale" }
  | { readonly type: "blur"; readonly sigma: number };

/** Everything that was left to chance in a view. */
export interface ViewPlan {
  /** In pixels of the image at its full size. */
  readonly crop: Box;
  readonly flip: boolean;
  /** In the order in which they are applied. */
  readonly adjustments: readonly Adjustment[];
}

/** Draws one view for contrastive pre-training. */
export function drawView(image: Size, recipe: AugmentationRecipe, random: RandomStream): ViewPlan {
  const crop = drawCrop(image, recipe.crop, random);
  const flip = random.chance(recipe.flip);
  const adjustments: Adjustment[] = [];
  if (random.chance(recipe.jitter.probability))
    adjustments.push(...drawJitter(recipe.jitter, random));
  if (random.chance(recipe.grayscale)) adjustments.push({ type: "grayscale" });
  if (random.chance(recipe.blur.probability)) {
    adjustments.push({ type: "blur", sigma: random.uniform(...recipe.blur.sigma) });
  }
  return { crop, flip, adjustments };
}

/** Draws the view that the linear classifier trains on: random crop and flip. */
export function drawLinearView(
  image: Size,
  recipe: Pick<LinearRecipe, "crop" | "flip">,
  random: RandomStream,
): ViewPlan {
  const crop = drawCrop(image, recipe.crop, random);
  return { crop, flip: random.chance(recipe.flip), adjustments: [] };
}

/**
 * Makes a view of the canvas's source.
 *
 * @param scale the source's size as a share of the image that the plan was drawn for
 */
export function paintView(canvas: Canvas, plan: ViewPlan, scale = 1): void {
  const { x, y, width, height } = plan.crop;
  const box = { x: x * scale, y: y * scale, width: width * scale, height: height * scale };
  cropResize(canvas, box, plan);
  for (const adjustment of plan.adjustments) adjust(canvas, adjustment);
}

/** Applies one change to the view as it is. */
function adjust(canvas: Canvas, adjustment: Adjustment): void {
  switch (adjustment.type) {
    case "brightness":
      adjustBrightness(canvas, adjustment.factor);
      return;
    case "contrast":
      adjustContrast(canvas, adjustment.factor);
      return;
    case "saturation":
      adjustSaturation(canvas, adjustment.factor);
      return;
    case "hue":
      adjustHue(canvas, adjustment.turn);
      return;
    case "grayscale":
      toGrayscale(canvas);
      return;
    case "blur":
      gaussianBlur(canvas, adjustment.sigma);
      return;
  }
}

/** A box of random area and shape; after ten that do not fit, the largest allowed centred one. */
export function drawCrop(
  { width, height }: Size,
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
function drawJitter(recipe: JitterRecipe, random: RandomStream): Adjustment[] {
  const factor = (strength: number): number =>
    random.uniform(Math.max(0, 1 - strength), 1 + strength);
  const adjustments: Adjustment[] = [];
  for (const operation of random.permutation(4)) {
    if (operation === 0 && recipe.brightness > 0) {
      adjustments.push({ type: "brightness", factor: factor(recipe.brightness) });
    } else if (operation === 1 && recipe.contrast > 0) {
      adjustments.push({ type: "contrast", factor: factor(recipe.contrast) });
    } else if (operation === 2 && recipe.saturation > 0) {
      adjustments.push({ type: "saturation", factor: factor(recipe.saturation) });
    } else if (operation === 3 && recipe.hue > 0) {
      adjustments.push({ type: "hue", turn: random.uniform(-recipe.hue, recipe.hue) });
    }
  }
  return adjustments;
}
