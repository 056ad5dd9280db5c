/** Decoders for the two uncompressed formats that sharp does not read: PNM (ppm, pgm) and BMP. */

import { createImage, type RgbImage } from "./augment/rgb-image.ts";

/** Whole pixels that an image may have; more is taken for a damaged header. */
export const PIXELS_MAX = 100_000_000;

/**
 * Decodes a binary PGM ("P5") or PPM ("P6") with 8 bits per value.
 *
 * @throws {Error} whose message says what is wrong with the file
 */
export function decodePnm(bytes: Buffer): RgbImage {
  const header =
    /^P([56])(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)\s/.exec(
      bytes.toString("latin1", 0, 1024),
    );
  if (header === null) throw new Error("has a damaged PNM header");
  const [width, height, peak] = [Number(header[2]), Number(header[3]), Number(header[4])];
  if (peak !== 255) throw new Error(`is a PNM with values up to ${peak}; only 255 is supported`);
  checkSize(width, height);

  const channels = header[1] === "6" ? 3 : 1;
  const pixels = bytes.subarray(header[0].length);
  if (pixels.length < width * height * channels) throw new Error("is truncated");
  const image = createImage(width, height);
  if (channels === 3) image.data.set(pixels.subarray(0, image.data.length));
  else replicateGrey(pixels, image.data);
  return image;
}

/**
 * Decodes an uncompressed BMP with 8 (palette), 24 or 32 bits per pixel.
 *
 * @throws {Error} whose message says what is wrong with the file
 */
export function decodeBmp(bytes: Buffer): RgbImage {
  if (bytes.length < 54) throw new Error("is truncated");
  const width = bytes.readInt32LE(18);
  const signedHeight = bytes.readInt32LE(22);
  const height = Math.abs(signedHeight);
  const bits = bytes.readUInt16LE(28);
  const compression = bytes.readUInt32LE(30);
  // 3 only says that the channels of 32 bits are given as masks; programs write the usual ones.
  if (![8, 24, 32].includes(bits) || !(compression === 0 || (compression === 3 && bits === 32))) {
    throw new Error(`is a BMP of ${bits} bits, compression ${compression}: not supported`);
  }
  checkSize(width, height);

  const stride = Math.ceil((width * bits) / 32) * 4;
  const begin = bytes.readUInt32LE(10);
  if (begin + stride * height > bytes.length) throw new Error("is truncated");
  const palette = bits === 8 ? bytes.subarray(14 + bytes.readUInt32LE(14), begin) : undefined;
  const image = createImage(width, height);
  for (let y = 0; y < height; y++) {
    const row = signedHeight < 0 ? y : height - 1 - y;
    const line = bytes.subarray(begin + row * stride, begin + (row + 1) * stride);
    copyBmpLine(line, bits / 8, palette, image.data.subarray(y * width * 3, (y + 1) * width * 3));
  }
  return image;
}

/** Writes the same value to all three channels. */
export function replicateGrey(grey: Uint8Array, data: Uint8Array): void {
  for (let i = 0, out = 0; out < data.length; i++, out += 3) {
    data.fill(grey[i]!, out, out + 3);
  }
}

/** BMP stores blue first, and perhaps a fourth byte; a palette does both. */
function copyBmpLine(
  line: Buffer,
  bytesPerPixel: number,
  palette: Buffer | undefined,
  target: Uint8Array,
): void {
  const source = palette ?? line;
  for (let i = 0, out = 0; out < target.length; i++, out += 3) {
    const at = palette === undefined ? i * bytesPerPixel : line[i]! * 4;
    target[out] = source[at + 2] ?? 0;
    target[out + 1] = source[at + 1] ?? 0;
    target[out + 2] = source[at] ?? 0;
  }
}

function checkSize(width: number, height: number): void {
  if (width < 1 || height < 1 || width * height > PIXELS_MAX) {
    throw new Error(`has impossible dimensions: ${width} x ${height}`);
  }
}
