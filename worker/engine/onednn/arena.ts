/**
 * Memory that native code computes in.
 *
 * A training step asks for the same sizes in the same order each time. So freed blocks are kept and
 * found again: after the first step nothing is allocated and no page is touched for the first time.
 * Blocks are cut from large chunks, best fit first; neighbours that are free join.
 */

import assert from "node:assert/strict";
import koffi from "koffi";
import { addressOf } from "./library.ts";
import type { Address } from "./symbols.ts";

/** Of a cache line, and of the widest vector register. */
const ALIGNMENT = 64;
/** Pages become resident when they are touched, so a chunk that is not full costs little. */
const CHUNK_BYTES = 256 * 2 ** 20;
const MADV_HUGEPAGE = 14;
const HUGE_PAGE = 2 * 2 ** 20;

interface Chunk {
  readonly buffer: ArrayBuffer;
  readonly address: Address;
  /** Free pieces by their offset, in rising order, none touching the next. */
  readonly free: Piece[];
}

interface Piece {
  offset: number;
  bytes: number;
}

/** A piece of memory that several tensors may hold; the last one to let go frees it. */
export class Block {
  readonly address: Address;
  readonly bytes: number;
  readonly chunk: Chunk;
  readonly offset: number;
  owners = 1;

  constructor(chunk: Chunk, offset: number, bytes: number) {
    this.chunk = chunk;
    this.offset = offset;
    this.bytes = bytes;
    this.address = chunk.address + offset;
  }

  /** The block as floats. Valid until it is freed. */
  floats(count: number = this.bytes / 4): Float32Array {
    return new Float32Array(this.chunk.buffer, this.offset, count);
  }

  /** The block as numbers of 16 bits. Valid until it is freed. */
  halves(count: number = this.bytes / 2): Uint16Array {
    return new Uint16Array(this.chunk.buffer, this.offset, count);
  }
}

export class Arena {
  readonly #chunks: Chunk[] = [];
  readonly #advise: (address: Address, bytes: number, advice: number) => number;
  #used = 0;

  constructor() {
    this.#advise = koffi
      .load("libc.so.6")
      .func("int madvise(uintptr_t address, size_t length, int advice)");
  }

  /** Bytes in blocks that are not free. */
  get used(): number {
    return this.#used;
  }

  /** The contents are whatever was there before. */
  take(bytes: number): Block {
    const size = Math.max(ALIGNMENT, Math.ceil(bytes / ALIGNMENT) * ALIGNMENT);
    const { chunk, index } = this.#find(size);
    const piece = chunk.free[index]!;
    const block = new Block(chunk, piece.offset, size);
    piece.offset += size;
    piece.bytes -= size;
    if (piece.bytes === 0) chunk.free.splice(index, 1);
    this.#used += size;
    return block;
  }

  share(block: Block): Block {
    assert.ok(block.owners > 0, "a block that is free cannot be shared");
    block.owners += 1;
    return block;
  }

  release(block: Block): void {
    assert.ok(block.owners > 0, "a block is freed once by each owner");
    block.owners -= 1;
    if (block.owners > 0) return;
    this.#used -= block.bytes;
    insert(block.chunk.free, { offset: block.offset, bytes: block.bytes });
  }

  #find(size: number): { readonly chunk: Chunk; readonly index: number } {
    let best: { chunk: Chunk; index: number } | undefined;
    let spare = Number.POSITIVE_INFINITY;
    for (const chunk of this.#chunks) {
      for (const [index, { bytes }] of chunk.free.entries()) {
        if (bytes < size || bytes - size >= spare) continue;
        best = { chunk, index };
        spare = bytes - size;
      }
    }
    return best ?? { chunk: this.#grow(size), index: 0 };
  }

  #grow(size: number): Chunk {
    const bytes = Math.max(size, CHUNK_BYTES);
    const buffer = new ArrayBuffer(bytes + HUGE_PAGE);
    const begin = addressOf(new Uint8Array(buffer));
    // Fewer entries of the page table for the same memory. Systems without huge pages refuse, which
    // costs nothing.
    const aligned = Math.ceil(begin / HUGE_PAGE) * HUGE_PAGE;
    this.#advise(aligned, bytes, MADV_HUGEPAGE);
    const chunk = { buffer, address: begin, free: [{ offset: aligned - begin, bytes }] };
    this.#chunks.push(chunk);
    return chunk;
  }
}

function insert(free: Piece[], piece: Piece): void {
  let index = free.findIndex(({ offset }) => offset > piece.offset);
  if (index < 0) index = free.length;
  const [before, after] = [free[index - 1], free[index]];
  const joinsBefore = before !== undefined && before.offset + before.bytes === piece.offset;
  const joinsAfter = after !== undefined && piece.offset + piece.bytes === after.offset;
  if (joinsBefore) {
    before.bytes += piece.bytes;
    if (joinsAfter) {
      before.bytes += after.bytes;
      free.splice(index, 1);
    }
  } else if (joinsAfter) {
    after.offset = piece.offset;
    after.bytes += piece.bytes;
  } else free.splice(index, 0, piece);
}
