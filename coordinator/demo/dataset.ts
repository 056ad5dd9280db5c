/** The demo's image data set: folder per class, JPEG files, as ImageFolder readers expect it. */

import path from "node:path";
import sharp from "sharp";
import { makeFolder } from "../../proto/make-folder.ts";
import { Chance } from "./chance.ts";
import { drawPattern, PATTERN_NAMES, type PatternName } from "./pattern.ts";

export interface DatasetSize {
  /** Width and height of every image, in pixels. */
  readonly imageSize: number;
  readonly trainPerClass: number;
  readonly valPerClass: number;
}

/** Images larger than what the model sees, so that a random crop loses little sharpness. */
export const DEMO_SIZE: DatasetSize = { imageSize: 48, trainPerClass: 80, valPerClass: 64 };

const JPEG_QUALITY = 92;

/**
 * Writes `train/<class>/NNN.jpg` and `val/<class>/NNN.jpg` under `folder`.
 *
 * Every image depends on seed, split, class and number only.
 */
export async function writeDataset(folder: string, seed: number, size: DatasetSize): Promise<void> {
  const splits = { train: size.trainPerClass, val: size.valPerClass };
  for (const [splitIndex, [split, count]] of Object.entries(splits).entries()) {
    for (const [label, name] of PATTERN_NAMES.entries()) {
      const target = path.join(folder, split, name);
      makeFolder(target);
      const writes = Array.from({ length: count }, (_, number) => {
        const chance = new Chance(mix(seed, splitIndex, label, number));
        const file = path.join(target, `${String(number).padStart(3, "0")}.jpg`);
        return writeImage(file, name, size.imageSize, chance);
      });
      await Promise.all(writes);
    }
  }
}

async function writeImage(
  file: string,
  name: PatternName,
  size: number,
  chance: Chance,
): Promise<void> {
  const pixels = drawPattern(name, size, chance);
  await sharp(pixels, { raw: { width: size, height: size, channels: 3 } })
    .jpeg({ quality: JPEG_QUALITY })
    .toFile(file);
}

/** One 32-bit seed out of several numbers (FNV-1a over their bytes). */
function mix(...numbers: readonly number[]): number {
  let hash = 0x811c9dc5;
  for (const number of numbers) {
    for (let shift = 0; shift < 32; shift += 8) {
      hash = Math.imul(hash ^ ((number >>> shift) & 0xff), 0x01000193);
    }
  }
  return hash >>> 0;
}
