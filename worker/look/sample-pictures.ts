/**
 * Images of a data set and what training makes of them: exactly the views that a run sees in that
 * epoch, made by what makes them there.
 */

import path from "node:path";
import { fromPlanes, type RgbImage, type Size } from "../data/augment/rgb-image.ts";
import type { ViewPlan } from "../data/augment/view.ts";
import { type Dataset, imageName } from "../data/dataset.ts";
import { decodeImage } from "../data/decode.ts";
import { allocateCache, fitsCache } from "../data/decode-cache.ts";
import { EntryReader } from "../data/entry-reader.ts";
import { indicesOf, type LoadPlan } from "../data/load-plan.ts";
import { drawViews, type ImageKeeper, type ViewKey, ViewMaker } from "../data/view-maker.ts";
import type { BrowseMode } from "./browse-mode.ts";
import { viewStages } from "./view-stages.ts";

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
  // Both views, stage by stage, though the second is not shown: how finely a photograph is decoded
  // depends on the two.
  const draw = (image: Size, key: ViewKey): readonly ViewPlan[] =>
    drawViews(plan, image, key).flatMap((view) => viewStages(view).map((stage) => stage.plan));
  const maker = mode === "pipeline" ? new ViewMaker(plan, draw) : new ViewMaker(plan);
  const paint = (source: Source): Picture[] => {
    const key = { epoch, index: source.index };
    const drawn = drawViews(plan, source.image, key);
    const captions = mode === "pipeline" ? captionStages(drawn) : captionViews(drawn);
    const views = Math.max(1, mode === "pipeline" ? drawn.length * captions.length : drawn.length);
    const images = makeViews(maker, plan.imageSize, { ...source, key, views, keep });
    return [original(source), ...captions.map((caption, i) => ({ caption, image: images[i]! }))];
  };
  return { paint, close: () => maker.close() };
}

/** Images that a loader would keep are decoded at their full size; that changes pixels a little. */
function keeperOf(dataset: Dataset): ImageKeeper | undefined {
  const cache = allocateCache(dataset.count);
  return cache && { wants: (size) => fitsCache(cache, size), take: () => {} };
}

function makeViews(
  maker: ViewMaker,
  size: number,
  source: Source & {
    readonly key: ViewKey;
    readonly views: number;
    readonly keep: ImageKeeper | undefined;
  },
): RgbImage[] {
  const { bytes, image, key, views, keep } = source;
  const viewBytes = 3 * size ** 2;
  const planes = new Uint8Array(views * viewBytes);
  if (!maker.paintJpeg(bytes, key, planes, keep)) maker.paint(image, key, planes);
  return Array.from({ length: views }, (_, view) =>
    fromPlanes(planes.subarray(view * viewBytes, (view + 1) * viewBytes), {
      width: size,
      height: size,
    }),
  );
}

function captionViews(drawn: readonly ViewPlan[]): string[] {
  return drawn.length === 0 ? ["validation"] : drawn.map((_, view) => `view ${view + 1}`);
}

function captionStages([first]: readonly ViewPlan[]): string[] {
  return first ? viewStages(first).map(({ caption }) => caption) : [];
}
