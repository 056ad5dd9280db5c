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
