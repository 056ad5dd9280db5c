/** What the engine hands out: tensors, and what a forward leaves for its backward. */

import type { BatchNormSaved, PoolSaved, Tensor } from "../engine.ts";
import { assertShape } from "../shapes.ts";
import type { Raw, RawNormTrained, RawPooled } from "./kernels.ts";
import { type Layout, layoutFor, storedShape } from "./layout.ts";

/** Owns one TensorFlow.js tensor. */
export class Handle implements Tensor {
  readonly shape: readonly number[];
  #raw: Raw;
  #layout: Layout;

  constructor(shape: readonly number[], layout: Layout, raw: Raw) {
    assertShape(raw.shape, storedShape(shape, layout));
    this.shape = [...shape];
    this.#raw = raw;
    this.#layout = layoutFor(shape, layout);
  }

  get raw(): Raw {
    return this.#raw;
  }

  get layout(): Layout {
    return this.#layout;
  }

  /** Frees the tensor and owns `raw` from now on. */
  replace(raw: Raw, layout: Layout): void {
    assertShape(raw.shape, storedShape(this.shape, layout));
    this.#raw.dispose();
    this.#raw = raw;
    this.#layout = layoutFor(this.shape, layout);
  }
}

/** Bytes of storage that handles share with one before them. */
export function repeatedBytes(handles: Iterable<Handle>): number {
  const seen = new Set<object>();
  let bytes = 0;
  for (const { raw } of handles) {
    if (seen.has(raw.dataId)) bytes += raw.size * Float32Array.BYTES_PER_ELEMENT;
    seen.add(raw.dataId);
  }
  return bytes;
}

export class SavedNorm implements BatchNormSaved {
  readonly tensors: readonly Tensor[];
  readonly shape: readonly number[];
  readonly backward: RawNormTrained["backward"];

  constructor(
    tensors: readonly Tensor[],
    shape: readonly number[],
    backward: RawNormTrained["backward"],
  ) {
    this.tensors = tensors;
    this.shape = shape;
    this.backward = backward;
  }
}

export class SavedPool implements PoolSaved {
  readonly tensors: readonly Tensor[];
  readonly xShape: readonly number[];
  readonly backward: RawPooled["backward"];

  constructor(
    tensors: readonly Tensor[],
    xShape: readonly number[],
    backward: RawPooled["backward"],
  ) {
    this.tensors = tensors;
    this.xShape = xShape;
    this.backward = backward;
  }
}
