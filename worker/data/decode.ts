/**
 * File contents to 8-bit RGB, as OpenCV's `imread` gives it (mmpretrain's decoder).
 *
 * The EXIF orientation is applied and alpha dropped; colour profiles are ignored.
 */

import sharp, { type OutputInfo } from "sharp";
import { createImage, type RgbImage } from "./augment/rgb-image.ts";
import { decodeBmp, decodePnm, PIXELS_MAX, replicateGrey } from "./decode-bitmap.ts";
import { isJpeg, jpegComponents } from "./jpeg-header.ts";

// Loaders decode many images at a time: one libvips thread per image is enough, and no image comes
// again while libvips would remember it.
sharp.concurrency(1);
sharp.cache(false);

/** To learn why an image cannot be decoded; beside others the reason gets lost one time in ten. */
const ATTEMPTS = 10;

/**
 * Decodes one image. The format is recognised by content, not by name.
 *
 * @throws {Error} whose message completes the sentence "FILE ..."
 */
export async function decodeImage(bytes: Buffer): Promise<RgbImage> {
  if (bytes.length === 0) throw new Error("is empty");
  const head = bytes.toString("latin1", 0, 12);
  if (/^P[56]\s/.test(head)) return decodePnm(bytes);
  if (head.startsWith("BM")) return decodeBmp(bytes);
  if (!/^(\xff\xd8\xff|\x89PNG|RIFF[\s\S]{4}WEBP|II\*\0|MM\0\*)/.test(head)) {
    throw new Error("is not a JPEG, PNG, WebP, TIFF, BMP or PNM image");
  }

  const isCmyk = isJpeg(bytes) && jpegComponents(bytes) === 4;
  const pipeline = sharp(bytes, {
    // A warning, such as stray bytes between JPEG segments, still leaves a whole image.
    failOn: "truncated",
    limitInputPixels: PIXELS_MAX,
    autoOrient: true,
    ignoreIcc: true,
  });
  if (isCmyk) pipeline.pipelineColourspace("cmyk").toColourspace("cmyk");
  for (let attempt = 1; ; attempt++) {
    try {
      const { data, info } = await pipeline.raw().toBuffer({ resolveWithObject: true });
      return toRgb(data, info, isCmyk);
    } catch (thrown) {
      const reason = thrown instanceof Error ? thrown.message : String(thrown);
      if (attempt < ATTEMPTS && isIncomplete(reason)) continue;
      // libvips says the same thing several times when it has tried several times.
      const said = new Set(reason.split("\n").map((line) => line.trim()));
      throw new Error(`cannot be decoded: ${[...said].join("; ")}`, { cause: thrown });
    }
  }
}

/**
 * libvips collects what went wrong in one text for all threads, which any of them may clear. What
 * is left of it then is sharp's own beginning.
 */
function isIncomplete(reason: string): boolean {
  return reason === "Unknown error" || reason.trimEnd().endsWith(":");
}

function toRgb(data: Buffer, info: OutputInfo, isCmyk: boolean): RgbImage {
  const { width, height, channels } = info;
  if (channels === 3) return { width, height, data };
  const image = createImage(width, height);
  if (channels === 1) replicateGrey(data, image.data);
  else if (isCmyk) convertCmyk(data, image.data);
  else pickChannels(data, channels, image.data);
  return image;
}

/** Drops alpha; grey with alpha becomes three equal channels. */
function pickChannels(data: Buffer, channels: number, target: Uint8Array): void {
  const step = channels < 3 ? 0 : 1;
  for (let i = 0, out = 0; out < target.length; i += channels, out += 3) {
    target[out] = data[i]!;
    target[out + 1] = data[i + step]!;
    target[out + 2] = data[i + 2 * step]!;
  }
}

/** OpenCV's conversion: with inverted values as Adobe stores them, k - ((255 - c) k >> 8). */
function convertCmyk(data: Buffer, target: Uint8Array): void {
  for (let i = 0, out = 0; out < target.length; i += 4, out += 3) {
    const k = 255 - data[i + 3]!;
    for (let channel = 0; channel < 3; channel++) {
      target[out + channel] = k - ((data[i + channel]! * k) >> 8);
    }
  }
}
