/**
 * Images of a data set and what training makes of them: exactly the views that a run sees in that
 * epoch, made by what makes them there.
 */

import path from "node:path";
import type { AugmentationRecipe } from "../../proto/recipe.ts";
import type { RgbImage } from "../data/augment/rgb-image.ts";
import { type Dataset, imageName } from "../data/dataset.ts";
import { decodeImage } from "../data/decode.ts";
import { allocateCache, fitsCache } from "../data/decode-cache.ts";
import { EntryReader } from "../data/entry-reader.ts";
import { indicesOf, type LoadPlan } from "../data/load-plan.ts";
import { type ImageKeeper, ViewMaker } from "../data/view-maker.ts";
import type { BrowseMode } from "./browse-mode.ts";

export interface Picture {
  readonly caption: string;
  readonly image: RgbImage;
}

/** One image of the data set. */
export interface Sample {
  /** Without its folders. */
  readonly name: string;
  /** Name of its class; empty without labels. */
  readonly label: string;
  /** Empty when the image cannot be read. */
  readonly pictures: readonly Picture[];
  /** Why it cannot be read; completes the sentence "FILE ...". */
  readonly problem: string | undefined;
}

export interface SampleOptions {
  readonly mode: BrowseMode;
  /** Counts from 0. */
  readonly epoch: number;
  readonly count: number;
}

/** An image of the data set, encoded and decoded. */
interface Source {
  readonly index: number;
  readonly bytes: Buffer;
  readonly image: RgbImage;
}

/** Makes pictures of an image. */
interface Painter {
  readonly paint: (source: Source) => readonly Picture[];
  readonly close: () => void;
}

/** What a view is made of, in order, as parts of the recipe that leave everything later out. */
const STAGES: readonly (readonly [string, (full: AugmentationRecipe) => AugmentationRecipe])[] = [
  ["crop", (full) => without(full, ["flip", "jitter", "grayscale", "blur"])],
  ["flip", (full) => without(full, ["jitter", "grayscale", "blur"])],
  ["jitter", (full) => without(full, ["grayscale", "blur"])],
  ["grayscale", (full) => without(full, ["blur"])],
  ["blur", (full) => full],
];

/**
 * Reads the first images of an epoch in the order of training, or images spread over the
 * validation split.
 *
 * @param plan what a lone worker would load
 */
export async function readSamples(
  dataset: Dataset,
  plan: LoadPlan,
  options: SampleOptions,
): Promise<readonly Sample[]> {
  const reader = new EntryReader(dataset);
  const painter = openPainter(dataset, plan, options);
  try {
    const samples: Sample[] = [];
    for (const index of choose(dataset, plan, options)) {
      const name = path.basename(imageName(dataset, index));
      const label = dataset.classes[dataset.labels[index] ?? -1] ?? "";
      try {
        const bytes = reader.read(index);
        const image = await decodeImage(bytes);
        const pictures = painter.paint({ index, bytes, image });
        samples.push({ name, label, pictures, problem: undefined });
      } catch (thrown) {
        const problem = thrown instanceof Error ? thrown.message : String(thrown);
        samples.push({ name, label, pictures: [], problem });
      }
    }
    return samples;
  } finally {
    painter.close();
    reader.close();
  }
}

function choose(dataset: Dataset, plan: LoadPlan, { epoch, count }: SampleOptions): number[] {
  const order = indicesOf(plan, dataset.count, epoch);
  const length = Math.min(count, order.length);
  const stride = plan.kind === "validation" ? order.length / length : 1;
  return Array.from({ length }, (_, i) => order[Math.floor(i * stride)]!);
}

function openPainter(dataset: Dataset, plan: LoadPlan, { mode, epoch }: SampleOptions): Painter {
  const original = ({ image }: Source): Picture => ({
    caption: `${image.width} x ${image.height}`,
    image,
  });
  if (mode === "original") return { paint: (source) => [original(source)], close: () => {} };
  const keep = keeperOf(dataset);
  const plans = mode === "pipeline" && plan.kind === "pretrain" ? stagesOf(plan) : [plan];
  const makers = plans.map((stage) => new ViewMaker(stage));
  const paint = (source: Source): Picture[] => {
    const views = makers.map((maker) => makeViews(maker, plan, source, epoch, keep));
    const made = mode === "pipeline" ? captionStages(views) : captionViews(plan, views[0] ?? []);
    return [original(source), ...made];
  };
  const close = (): void => {
    for (const maker of makers) maker.close();
  };
  return { paint, close };
}

/** Images that a loader would keep are decoded at their full size; that changes pixels a little. */
function keeperOf(dataset: Dataset): ImageKeeper | undefined {
  const cache = allocateCache(dataset.count);
  return cache && { wants: (size) => fitsCache(cache, size), take: () => {} };
}

function makeViews(
  maker: ViewMaker,
  plan: LoadPlan,
  { index, bytes, image }: Source,
  epoch: number,
  keep: ImageKeeper | undefined,
): RgbImage[] {
  const size = plan.imageSize;
  const viewBytes = 3 * size ** 2;
  const planes = new Uint8Array((plan.kind === "pretrain" ? 2 : 1) * viewBytes);
  const key = { epoch, index };
  if (!maker.paintJpeg(bytes, key, planes, keep)) maker.paint(image, key, planes);
  return Array.from({ length: planes.length / viewBytes }, (_, view) =>
    interleaved(planes.subarray(view * viewBytes, (view + 1) * viewBytes), size),
  );
}

function captionViews(plan: LoadPlan, views: readonly RgbImage[]): Picture[] {
  const name = (view: number): string =>
    plan.kind === "validation" ? "validation" : `view ${view + 1}`;
  return views.map((image, view) => ({ caption: name(view), image }));
}

function captionStages(stages: readonly (readonly RgbImage[])[]): Picture[] {
  const first = stages.flatMap((views) => views.slice(0, 1));
  return first.map((image, i) => {
    const [name] = STAGES[i]!;
    const before = first[i - 1];
    const isSame = before !== undefined && Buffer.compare(image.data, before.data) === 0;
    return { caption: isSame ? `no ${name}` : name, image };
  });
}

/**
 * The plan after each step of the augmentation. A step takes its draws from the stream after all
 * earlier ones, so leaving out the later ones changes nothing of what it does.
 */
function stagesOf(plan: Extract<LoadPlan, { kind: "pretrain" }>): LoadPlan[] {
  return STAGES.map(([, part]) => ({ ...plan, augmentation: part(plan.augmentation) }));
}

function without(
  full: AugmentationRecipe,
  left: readonly ("flip" | "jitter" | "grayscale" | "blur")[],
): AugmentationRecipe {
  const { jitter, blur } = full;
  return {
    ...full,
    ...(left.includes("flip") ? { flip: 0 } : {}),
    ...(left.includes("jitter") ? { jitter: { ...jitter, probability: 0 } } : {}),
    ...(left.includes("grayscale") ? { grayscale: 0 } : {}),
    ...(left.includes("blur") ? { blur: { ...blur, probability: 0 } } : {}),
  };
}

/** One plane per channel to interleaved channels. */
function interleaved(planes: Uint8Array, size: number): RgbImage {
  const data = new Uint8Array(planes.length);
  const plane = size ** 2;
  for (let i = 0; i < plane; i++) {
    for (let channel = 0; channel < 3; channel++)
      data[i * 3 + channel] = planes[channel * plane + i]!;
  }
  return { width: size, height: size, data };
}
