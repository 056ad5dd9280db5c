/**
 * Memory in which views are made: a source image, and the view that is cut out of it, as planes.
 *
 * It belongs to one instance of a WebAssembly module, whose functions (`assembly/`) change pixels
 * sixteen at a time. They may read and write a little beyond the end of what they are given, so
 * everything has some bytes of padding behind it.
 *
 * ```
 * view      3 planes of width * height bytes: red, green, blue
 * scratch   the same again
 * source    the image that views are cut out of, channels interleaved
 * work      whatever one operation needs meanwhile
 * ```
 */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { fromPlanes, type RgbImage, type Size } from "./rgb-image.ts";

/** Exports of `assembly/kernels.ts`, which says what they do. Addresses are byte offsets. */
interface Kernels {
  readonly memory: WebAssembly.Memory;
  readonly resampleRows: (...values: number[]) => void;
  readonly resampleColumns: (...values: number[]) => void;
  readonly blendWith: (planes: number, bytes: number, base: number, factor: number) => void;
  readonly blendWithLuma: (...values: number[]) => void;
  readonly sumLuma: (planes: number, planeBytes: number, pixels: number) => number;
  readonly toGrey: (...values: number[]) => void;
  readonly turnHue: (planes: number, planeBytes: number, pixels: number, shift: number) => void;
  readonly blurRows: (...values: number[]) => void;
  readonly blurColumns: (...values: number[]) => void;
}

const PAGE_BYTES = 65_536;
/** Lanes of an instruction: how far a loop may run over the end. */
const LANE_BYTES = 16;
/** The module keeps nothing of its own in memory, but address 0 is not for use. */
const BEGIN = 1024;

const module = new WebAssembly.Module(readFileSync(new URL("./kernels.wasm", import.meta.url)));

/** One per thread and size of view. Operations on it are in the files beside this one. */
export class Canvas implements Size {
  /** Of the view. */
  readonly width: number;
  readonly height: number;
  readonly kernels: Kernels;
  /** From one plane of the view to the next. */
  readonly planeBytes: number;
  /** Address of the source image. */
  readonly sourceAt: number;
  #view = BEGIN;
  #scratch: number;
  #source: Size = { width: 0, height: 0 };

  constructor({ width, height }: Size) {
    this.width = width;
    this.height = height;
    this.kernels = new WebAssembly.Instance(module, {}).exports as unknown as Kernels;
    this.planeBytes = padded(width * height) + LANE_BYTES;
    this.#scratch = BEGIN + 3 * this.planeBytes;
    this.sourceAt = this.#scratch + 3 * this.planeBytes;
    this.#reserve(this.sourceAt);
  }

  /** Address of the view. */
  get view(): number {
    return this.#view;
  }

  /** Address of as much memory as the view has. */
  get scratch(): number {
    return this.#scratch;
  }

  /** Makes what lies in the scratch memory the view. */
  swap(): void {
    [this.#view, this.#scratch] = [this.#scratch, this.#view];
  }

  /** Size of the source image. */
  get source(): Size {
    return this.#source;
  }

  /**
   * Makes room for a source image, to be written by the caller: 8-bit RGB, interleaved.
   *
   * @returns a window of the memory; valid until the next call of any operation
   */
  openSource(size: Size): Uint8Array {
    const bytes = size.width * size.height * 3;
    this.#source = size;
    this.#reserve(this.sourceAt + bytes);
    return new Uint8Array(this.kernels.memory.buffer, this.sourceAt, bytes);
  }

  /** Makes a copy of `image` the source. */
  load(image: RgbImage): void {
    this.openSource(image).set(image.data);
  }

  /** Room for `bytes` of one operation, which may use {@link write} for what it puts there. */
  openWork(bytes: number): number {
    const { width, height } = this.#source;
    const at = padded(this.sourceAt + width * height * 3) + LANE_BYTES;
    this.#reserve(at + bytes);
    return at;
  }

  /** Copies 32-bit integers to an address within the work area. */
  write(at: number, values: Int32Array): void {
    assert.equal(at % 4, 0);
    new Int32Array(this.kernels.memory.buffer, at, values.length).set(values);
  }

  /** Copies the view out, as [3, height, width]. */
  copyTo(target: Uint8Array): void {
    const pixels = this.width * this.height;
    assert.equal(target.length, 3 * pixels);
    for (let channel = 0; channel < 3; channel++) {
      target.set(this.#plane(channel), channel * pixels);
    }
  }

  /** The view as an image, channels interleaved. */
  toImage(): RgbImage {
    const planes = new Uint8Array(3 * this.width * this.height);
    this.copyTo(planes);
    return fromPlanes(planes, this);
  }

  /** Makes `image`, which has the view's size, the view. */
  setImage(image: RgbImage): void {
    assert.deepEqual([image.width, image.height], [this.width, this.height]);
    for (let channel = 0; channel < 3; channel++) {
      const plane = this.#plane(channel);
      for (let i = 0; i < plane.length; i++) plane[i] = image.data[i * 3 + channel]!;
    }
  }

  #plane(channel: number): Uint8Array {
    const at = this.#view + channel * this.planeBytes;
    return new Uint8Array(this.kernels.memory.buffer, at, this.width * this.height);
  }

  /** Sees to it that memory goes on for a while after `end`. */
  #reserve(end: number): void {
    const { memory } = this.kernels;
    const missing = end + PAGE_BYTES - memory.buffer.byteLength;
    if (missing > 0) memory.grow(Math.ceil(missing / PAGE_BYTES));
  }
}

function padded(bytes: number): number {
  return Math.ceil(bytes / LANE_BYTES) * LANE_BYTES;
}
