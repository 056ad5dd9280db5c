/**
 * Keeps the decoded images of a small data set in memory that all loader threads share.
 *
 * Decoding a tiny JPEG costs several times as much as augmenting it. A data set whose decoded
 * pixels fit into {@link CACHE_BYTES} is therefore decoded only once; a larger one is not cached at
 * all. Images are only ever added: space is handed out by counting.
 *
 * ```
 * entries   int32   per image: 0, or 1 + the word at which it lies in `words`
 * words     int32   number of words in use | width, height, pixels; width, height, pixels; ...
 * ```
 */

import type { RgbImage, Size } from "./augment/rgb-image.ts";

/** Enough for CIFAR (154 MB). Memory is taken from the system only as it fills. */
const CACHE_BYTES = 256 * 1024 * 1024;
/** Smallest image that is worth having, with its header: 8 x 8. */
const IMAGE_BYTES_MIN = 200;
const HEADER_WORDS = 2;

/** Structured-cloneable. */
export interface DecodeCache {
  readonly entries: Int32Array<SharedArrayBuffer>;
  readonly words: Int32Array<SharedArrayBuffer>;
  readonly bytes: Uint8Array<SharedArrayBuffer>;
}

/** Undefined when the images of so large a data set cannot all fit. */
export function allocateCache(images: number): DecodeCache | undefined {
  if (images * IMAGE_BYTES_MIN > CACHE_BYTES) return undefined;
  const buffer = new SharedArrayBuffer(CACHE_BYTES);
  const words = new Int32Array(buffer);
  words[0] = 1;
  const entries = new Int32Array(new SharedArrayBuffer(images * 4));
  return { entries, words, bytes: new Uint8Array(buffer) };
}

/** The pixels belong to the cache: they must not be changed. */
export function cachedImage(cache: DecodeCache, index: number): RgbImage | undefined {
  const entry = Atomics.load(cache.entries, index);
  if (entry === 0) return undefined;
  const at = entry - 1;
  const width = cache.words[at]!;
  const height = cache.words[at + 1]!;
  const begin = (at + HEADER_WORDS) * 4;
  return { width, height, data: cache.bytes.subarray(begin, begin + width * height * 3) };
}

/** Whether the data set would fit with all its images of that size. */
export function fitsCache({ entries }: DecodeCache, size: Size): boolean {
  return entries.length * wordsOf(size) * 4 <= CACHE_BYTES;
}

/** Copies an image into the cache, unless that is full, or the image too large for it. */
export function cacheImage(cache: DecodeCache, index: number, image: RgbImage): void {
  const { entries, words, bytes } = cache;
  const length = wordsOf(image);
  if (!fitsCache(cache, image) || Atomics.load(words, 0) + length > words.length) return;
  const at = Atomics.add(words, 0, length);
  if (at + length > words.length) return;
  words[at] = image.width;
  words[at + 1] = image.height;
  bytes.set(image.data, (at + HEADER_WORDS) * 4);
  Atomics.store(entries, index, at + 1);
}

function wordsOf({ width, height }: Size): number {
  return HEADER_WORDS + Math.ceil((width * height * 3) / 4);
}
