/** The engine's tensors: where they lie, who holds them, and their copies in other layouts. */

import assert from "node:assert/strict";
import type { Tensor } from "../engine.ts";
import { ScopeTracker } from "../scope-tracker.ts";
import { sizeOf } from "../shapes.ts";
import type { Arena, Block } from "./arena.ts";
import type { Layout, Layouts } from "./layout.ts";
import { addressOf, hasFixedAddress } from "./library.ts";
import type { Reorders } from "./reorders.ts";
import { Stored } from "./stored.ts";
import type { Address } from "./symbols.ts";

export class Store {
  readonly #arena: Arena;
  readonly #layouts: Layouts;
  readonly #reorders: Reorders;
  readonly #tracker = new ScopeTracker<Stored>((stored) => this.#free(stored));
  #count = 0;

  constructor(arena: Arena, layouts: Layouts, reorders: Reorders) {
    this.#arena = arena;
    this.#layouts = layouts;
    this.#reorders = reorders;
  }

  memory(): { readonly tensors: number; readonly bytes: number } {
    return { tensors: this.#count, bytes: this.#arena.used };
  }

  scope<T>(body: () => T): T {
    return this.#tracker.run(body);
  }

  release(tensor: Tensor): void {
    this.#tracker.release(tensor);
  }

  releaseAll(): void {
    this.#tracker.releaseAll();
  }

  /** A tensor of whatever was in its memory before. */
  make(shape: readonly number[], layout: Layout): Stored {
    return this.#adopt(new Stored(shape, layout, this.#arena.take(layout.bytes)));
  }

  /** A row-major float32 tensor. */
  makePlain(shape: readonly number[]): Stored {
    return this.make(shape, this.#layouts.plain(shape));
  }

  /** A second tensor of the same contents, which neither owner changes. */
  share(stored: Stored): Stored {
    return this.#adopt(new Stored(stored.shape, stored.layout, this.#arena.share(stored.block)));
  }

  open(tensor: Tensor): Stored {
    return this.#tracker.open(tensor);
  }

  /** Where the tensor lies in `layout`; makes a copy the first time. Valid until it is released. */
  read(tensor: Tensor, layout: Layout): Address {
    const stored = this.open(tensor);
    if (stored.layout === layout) return stored.block.address;
    const known = stored.copies.get(layout);
    if (known) return known.address;
    const block = this.#arena.take(layout.bytes);
    this.#copy(stored, layout, block.address);
    stored.copies.set(layout, block);
    return block.address;
  }

  /** A tensor of the same contents in another layout. */
  convert(stored: Stored, layout: Layout): Stored {
    const converted = this.make(stored.shape, layout);
    this.#copy(stored, layout, converted.block.address);
    return converted;
  }

  /** The tensor's memory as floats, row-major. Valid until it is released. */
  floats(tensor: Tensor): Float32Array {
    const plain = this.#layouts.plain(tensor.shape);
    const stored = this.open(tensor);
    const address = this.read(stored, plain);
    const block = stored.block.address === address ? stored.block : stored.copies.get(plain)!;
    return block.floats(sizeOf(tensor.shape));
  }

  /** Copies the tensor, row-major, to memory that is not the arena's. */
  copyOut(tensor: Tensor, target: Float32Array): void {
    const stored = this.open(tensor);
    const plain = this.#layouts.plain(tensor.shape);
    if (stored.layout === plain) target.set(stored.block.floats(target.length));
    else if (!hasFixedAddress(target)) target.set(this.floats(tensor));
    else this.#copy(stored, plain, addressOf(target));
  }

  /** To call before the contents of a tensor change: whatever was derived from them is void. */
  touch(stored: Stored): void {
    assert.equal(stored.block.owners, 1, "a tensor that shares its memory does not change");
    stored.version += 1;
    this.#freeDerived(stored);
  }

  /** Memory for the length of one operation. */
  borrow<T>(bytes: number, body: (block: Block) => T): T {
    const block = this.#arena.take(bytes);
    try {
      return body(block);
    } finally {
      this.#arena.release(block);
    }
  }

  /** Memory that a tensor's `folded` owns. */
  take(bytes: number): Block {
    return this.#arena.take(bytes);
  }

  forgetFolded(stored: Stored): void {
    if (!stored.folded) return;
    this.#arena.release(stored.folded.weights);
    this.#arena.release(stored.folded.bias);
    stored.folded = undefined;
  }

  #copy({ layout: from, shape, block }: Stored, to: Layout, target: Address): void {
    this.#reorders.between(from, to, shape).run(block.address, target);
  }

  #adopt(stored: Stored): Stored {
    this.#count += 1;
    return this.#tracker.adopt(stored);
  }

  #free(stored: Stored): void {
    this.#count -= 1;
    this.#freeDerived(stored);
    this.#arena.release(stored.block);
  }

  #freeDerived(stored: Stored): void {
    for (const block of stored.copies.values()) this.#arena.release(block);
    stored.copies.clear();
    this.forgetFolded(stored);
  }
}
