/** Copies what the taps of a convolution see into the rows of a matrix. */

export interface PatchGrid {
  readonly inputs: number;
  readonly height: number;
  readonly width: number;
  readonly images: number;
  readonly kh: number;
  readonly kw: number;
  readonly stride: number;
  readonly padding: number;
  readonly outWidth: number;
}

/** Runs shorter than this are copied in a loop: a `set` costs as much as 30 elements. */
const RUN_MIN = 32;

/**
 * @param from x [I,H,W,N]
 * @param to receives [kh kw I, (end - begin) W' N]: row (tap, i) is what the tap reads of input i
 * @param rows output rows [begin, end)
 */
export function copyPatches(
  from: Float32Array,
  to: Float32Array,
  grid: PatchGrid,
  rows: { readonly begin: number; readonly end: number },
): void {
  const { inputs, height, width, images, kh, kw, stride, padding, outWidth } = grid;
  const line = width * images;
  let at = 0;
  for (let ky = 0; ky < kh; ky++)
    for (let kx = 0; kx < kw; kx++)
      for (let i = 0; i < inputs; i++)
        for (let row = rows.begin; row < rows.end; row++) {
          const y = row * stride + ky - padding;
          const inside = y >= 0 && y < height;
          if (inside) copyLine(from, (i * height + y) * line, to, at, kx, grid);
          else to.fill(0, at, at + outWidth * images);
          at += outWidth * images;
        }
}

/** What tap column `kx` reads along one row of pixels that begins at `source`. */
function copyLine(
  from: Float32Array,
  source: number,
  to: Float32Array,
  at: number,
  kx: number,
  { width, images, stride, padding, outWidth }: PatchGrid,
): void {
  // Output columns [begin, end) read pixels of the image, the others its padding.
  const begin = Math.min(outWidth, Math.max(0, Math.ceil((padding - kx) / stride)));
  const end = Math.max(begin, Math.min(outWidth, Math.ceil((width + padding - kx) / stride)));
  to.fill(0, at, at + begin * images);
  to.fill(0, at + end * images, at + outWidth * images);
  const first = source + (begin * stride + kx - padding) * images;
  if (stride === 1) {
    to.set(from.subarray(first, first + (end - begin) * images), at + begin * images);
    return;
  }
  for (let column = begin; column < end; column++) {
    const pixel = first + (column - begin) * stride * images;
    const target = at + column * images;
    if (images >= RUN_MIN) to.set(from.subarray(pixel, pixel + images), target);
    else for (let n = 0; n < images; n++) to[target + n] = from[pixel + n]!;
  }
}
