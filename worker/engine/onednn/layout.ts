/**
 * How tensors lie in memory.
 *
 * Matrices and vectors are row-major float32. Feature maps are blocked: [images, channels / width,
 * pixels, width] with as many channels side by side as a vector register holds, in the precision of
 * the activations. A map of fewer channels than that, which only the input images are, is NCHW.
 * Convolution weights are kept row-major; each convolution reads a copy in a layout of its choice.
 */

import assert from "node:assert/strict";
import type { Precision } from "../engine.ts";
import { sizeOf } from "../shapes.ts";
import { addressOf, type Library } from "./library.ts";
import { type Address, DATA_TYPE } from "./symbols.ts";

/** Channels side by side in a blocked map. */
export type BlockWidth = 8 | 16;

/** `dnnl_format_tag_t` of nChw8c and nChw16c. */
const BLOCKED_TAG = { 8: 93, 16: 69 } as const;

/** Columns that a register of float32 holds. */
export const ROW_MULTIPLE = 8;

/** Two layouts of equal contents are the same object. */
export interface Layout {
  readonly descriptor: Address;
  readonly bytes: number;
  readonly type: Precision;
}

export class Layouts {
  readonly width: BlockWidth;
  readonly #library: Library;
  /** Of feature maps. */
  readonly precision: Precision;
  readonly #plain = new Map<string, Layout>();
  readonly #blocked = new Map<string, Layout>();
  /** Layouts that primitives asked for, by the shape of their tensor. */
  readonly #others = new Map<string, Layout[]>();
  /** What the layouts' descriptors lie in. */
  readonly #kept: Uint8Array[] = [];

  constructor(library: Library, width: BlockWidth, precision: Precision) {
    this.#library = library;
    this.width = width;
    this.precision = precision;
  }

  /** Row-major, in float32 unless said otherwise. */
  plain(shape: readonly number[], type: Precision = "f32"): Layout {
    const key = `${type} ${shape}`;
    const known = this.#plain.get(key);
    if (known) return known;
    // oneDNN has no tensors of no dimension.
    const axes = shape.length === 0 ? [1] : shape;
    const strides = axes.map((_, axis) => sizeOf(axes.slice(axis + 1)));
    const layout = this.#keep(
      this.#library.stridedDescriptor(axes, strides, DATA_TYPE[type]),
      type,
    );
    this.#plain.set(key, layout);
    return layout;
  }

  /** Of a matrix [N, C], with room at the end of each row for a multiple of 8 columns. */
  rows(shape: readonly number[]): Layout {
    const [rows, columns] = shape as [number, number];
    const padded = roundUp(columns, ROW_MULTIPLE);
    if (padded === columns) return this.plain(shape);
    const key = `rows ${shape}`;
    const known = this.#blocked.get(key);
    if (known) return known;
    const md = this.#library.stridedDescriptor(shape, [padded, 1], DATA_TYPE.f32);
    const layout = { ...this.#keep(md, "f32"), bytes: rows * padded * elementBytes("f32") };
    this.#blocked.set(key, layout);
    return layout;
  }

  /** Of a feature map [N, C, H, W]. */
  map(shape: readonly number[], type: Precision = this.precision): Layout {
    if (shape[1]! < this.width) return this.plain(shape, type);
    return this.blocked(shape, type);
  }

  /** Of a feature map, blocked even when there are few channels; the last block is padded. */
  blocked(shape: readonly number[], type: Precision = this.precision): Layout {
    const key = `${type} ${shape}`;
    const known = this.#blocked.get(key);
    if (known) return known;
    const md = this.#library.taggedDescriptor(shape, DATA_TYPE[type], BLOCKED_TAG[this.width]);
    const layout = this.#keep(md, type);
    this.#blocked.set(key, layout);
    return layout;
  }

  /** The layout that holds the same tensor in the same order in float32. */
  inFloat32(layout: Layout, shape: readonly number[]): Layout {
    if (layout.type === "f32") return layout;
    if (layout === this.plain(shape, layout.type)) return this.plain(shape);
    assert.equal(layout, this.blocked(shape, layout.type), "maps are plain or blocked");
    return this.blocked(shape, "f32");
  }

  /** What a primitive chose; `descriptor` must live as long as this object. */
  chosen(shape: readonly number[], descriptor: Address, type: Precision): Layout {
    const { descriptorEqual, descriptorSize } = this.#library.symbols;
    const key = `${type} ${shape}`;
    const known = [this.#plain.get(key), ...(this.#others.get(key) ?? [])];
    const same = known.find((layout) => layout && descriptorEqual(layout.descriptor, descriptor));
    if (same) return same;
    const layout = { descriptor, bytes: Number(descriptorSize(descriptor)), type };
    this.#others.set(key, [...(this.#others.get(key) ?? []), layout]);
    return layout;
  }

  #keep(md: Uint8Array, type: Precision): Layout {
    this.#kept.push(md);
    const descriptor = addressOf(md);
    const bytes = Number(this.#library.symbols.descriptorSize(descriptor));
    return { descriptor, bytes, type };
  }
}

/** Bytes of one element. */
export function elementBytes(type: Precision): number {
  return type === "f32" ? 4 : 2;
}

function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}
