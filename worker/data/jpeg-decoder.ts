/**
 * JPEG decoding by libjpeg-turbo, through its TurboJPEG interface: right into the memory where
 * views are made, and at a half, a quarter or an eighth of the size where no more is needed.
 *
 * Only what is plain is taken: grey or YCbCr, upright, whole. Everything else (CMYK, EXIF
 * orientation, damage of any kind) is left to `decode.ts`, which also knows what to say of it.
 */

import { createRequire } from "node:module";
import type { Size } from "./augment/rgb-image.ts";
import { PIXELS_MAX } from "./decode-bitmap.ts";
import { isUprightJpeg } from "./jpeg-header.ts";

/** Names of the library on Linux and on macOS; version 2 and 3 both have what is used here. */
const NAMES = ["libturbojpeg.so.0", "libturbojpeg.dylib"];

/** TJPF_RGB. */
const RGB = 0;
/** TJCS_RGB, TJCS_YCbCr and TJCS_GRAY; above them come CMYK and YCCK. */
const COLOURSPACE_MAX = 2;

/** What an edge may be divided by while it is decoded. */
export type Denominator = 1 | 2 | 4 | 8;

type Status = number;

interface Symbols {
  readonly initDecompress: () => unknown;
  readonly decompressHeader: (
    handle: unknown,
    jpeg: Uint8Array,
    bytes: number,
    width: Int32Array,
    height: Int32Array,
    subsampling: Int32Array,
    colourspace: Int32Array,
  ) => Status;
  readonly decompress: (
    handle: unknown,
    jpeg: Uint8Array,
    bytes: number,
    target: Uint8Array,
    width: number,
    pitch: number,
    height: number,
    format: number,
    flags: number,
  ) => Status;
  readonly destroy: (handle: unknown) => Status;
}

/** Loaded at most once in a thread: undefined before, null when it cannot be. */
let symbols: Symbols | null | undefined;

/** One per thread that decodes. */
export class JpegDecoder {
  readonly #symbols: Symbols;
  readonly #handle: unknown;
  readonly #width = new Int32Array(1);
  readonly #height = new Int32Array(1);
  readonly #subsampling = new Int32Array(1);
  readonly #colourspace = new Int32Array(1);

  private constructor(loaded: Symbols) {
    this.#symbols = loaded;
    this.#handle = loaded.initDecompress();
  }

  /** Undefined where the library is not installed. */
  static open(): JpegDecoder | undefined {
    symbols ??= loadSymbols();
    return symbols ? new JpegDecoder(symbols) : undefined;
  }

  /** Size of the whole image; undefined if it is not for this decoder. */
  sizeOf(bytes: Buffer): Size | undefined {
    if (!isUprightJpeg(bytes)) return undefined;
    const [width, height, colourspace] = [this.#width, this.#height, this.#colourspace];
    const status = this.#symbols.decompressHeader(
      this.#handle,
      bytes,
      bytes.length,
      width,
      height,
      this.#subsampling,
      colourspace,
    );
    if (status !== 0 || colourspace[0]! > COLOURSPACE_MAX) return undefined;
    const size = { width: width[0]!, height: height[0]! };
    return size.width * size.height <= PIXELS_MAX ? size : undefined;
  }

  /**
   * Decodes into `target`, 8-bit RGB of {@link scaledSize}.
   *
   * @returns false if the image is damaged, however little
   */
  decode(bytes: Buffer, size: Size, target: Uint8Array): boolean {
    const { width, height } = size;
    const { decompress } = this.#symbols;
    return decompress(this.#handle, bytes, bytes.length, target, width, 0, height, RGB, 0) === 0;
  }

  close(): void {
    this.#symbols.destroy(this.#handle);
  }
}

/** For the log: what decodes JPEG images in this process. */
export function describeJpegDecoder(): string {
  symbols ??= loadSymbols();
  if (symbols) return "JPEG images are decoded by libjpeg-turbo";
  return `JPEG images are decoded by sharp, slower: ${NAMES[0]} is not installed (libturbojpeg0)`;
}

/** Size of an image that is decoded at 1 / `denominator`. */
export function scaledSize({ width, height }: Size, denominator: Denominator): Size {
  return {
    width: Math.ceil(width / denominator),
    height: Math.ceil(height / denominator),
  };
}

function loadSymbols(): Symbols | null {
  for (const name of NAMES) {
    try {
      const koffi = createRequire(import.meta.url)("koffi") as typeof import("koffi");
      const library = koffi.load(name);
      return {
        initDecompress: library.func("void *tjInitDecompress()"),
        decompressHeader: library.func(
          "int tjDecompressHeader3(void *handle, const void *jpeg, unsigned long bytes, " +
            "void *width, void *height, void *subsampling, void *colourspace)",
        ),
        decompress: library.func(
          "int tjDecompress2(void *handle, const void *jpeg, unsigned long bytes, " +
            "void *target, int width, int pitch, int height, int format, int flags)",
        ),
        destroy: library.func("int tjDestroy(void *handle)"),
      };
    } catch {
      // Images are then decoded by sharp, which the caller says where somebody reads it.
    }
  }
  return null;
}
