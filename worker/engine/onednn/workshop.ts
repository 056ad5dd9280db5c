/** Where primitives are made, once each, and what they share. */

import type { Precision } from "../engine.ts";
import type { Arena } from "./arena.ts";
import type { VectorKernels } from "./kernels/vector-kernels.ts";
import type { Layout, Layouts } from "./layout.ts";
import type { Library } from "./library.ts";
import type { NativeWork } from "./native-work.ts";
import { Primitive, type PrimitiveOptions } from "./primitive.ts";
import type { Address } from "./symbols.ts";

interface WorkshopParts {
  readonly library: Library;
  readonly layouts: Layouts;
  readonly arena: Arena;
  readonly kernels: VectorKernels;
  readonly work: NativeWork;
  /** What primitives compute in; feature maps may be kept in another one. */
  readonly precision: Precision;
}

/** A feature map's layout in memory, and the one that primitives compute with. */
export interface MapLayout {
  readonly stored: Layout;
  readonly computed: Layout;
}

/** Layouts that primitives chose point into their descriptions: all live as long as the engine. */
export class Workshop {
  readonly library: Library;
  readonly layouts: Layouts;
  readonly arena: Arena;
  readonly kernels: VectorKernels;
  readonly work: NativeWork;
  readonly precision: Precision;
  readonly #primitives: Primitive[] = [];
  readonly #descriptions: Address[] = [];
  readonly #made = new Map<string, unknown>();

  constructor(parts: WorkshopParts) {
    this.library = parts.library;
    this.layouts = parts.layouts;
    this.arena = parts.arena;
    this.kernels = parts.kernels;
    this.work = parts.work;
    this.precision = parts.precision;
  }

  /** What `make` made the first time. */
  once<T>(key: string, make: () => T): T {
    const known = this.#made.get(key);
    if (known !== undefined) return known as T;
    const made = make();
    this.#made.set(key, made);
    return made;
  }

  make(options: PrimitiveOptions): Primitive {
    const primitive = new Primitive(this, options);
    this.#primitives.push(primitive);
    return primitive;
  }

  /** Owns a description from now on. */
  keep(description: Address): Address {
    this.#descriptions.push(description);
    return description;
  }

  /** The layout that feature maps of a shape are kept in. */
  map(shape: readonly number[]): MapLayout {
    const { layouts, precision } = this;
    return { stored: layouts.map(shape), computed: layouts.map(shape, precision) };
  }

  /** NCHW. */
  plainMap(shape: readonly number[]): MapLayout {
    const { layouts, precision } = this;
    const stored = layouts.plain(shape, layouts.precision);
    return { stored, computed: layouts.plain(shape, precision) };
  }

  close(): void {
    const { primitiveDescriptorDestroy } = this.library.symbols;
    for (const primitive of this.#primitives) primitive.close();
    for (const description of this.#descriptions) primitiveDescriptorDestroy(description);
  }
}
