/** A decoded image: the currency of everything between the decoder and the batch. */

/** In pixels. */
export interface Size {
  readonly width: number;
  readonly height: number;
}

/** 8-bit RGB, row-major, channels interleaved: `data.length === height * width * 3`. */
export interface RgbImage extends Size {
  readonly data: Uint8Array;
}

/** A rectangle of pixels; `x`, `y` is its top left corner. */
export interface Box extends Size {
  readonly x: number;
  readonly y: number;
}

export function createImage(width: number, height: number): RgbImage {
  return { width, height, data: new Uint8Array(width * height * 3) };
}

/** The image of three planes, [3, height, width]. */
export function fromPlanes(planes: Uint8Array, { width, height }: Size): RgbImage {
  const plane = width * height;
  const data = new Uint8Array(3 * plane);
  for (let i = 0; i < plane; i++) {
    for (let channel = 0; channel < 3; channel++) {
      data[i * 3 + channel] = planes[channel * plane + i]!;
    }
  }
  return { width, height, data };
}
