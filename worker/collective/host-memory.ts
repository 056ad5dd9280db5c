/**
 * Floats that every rank of a gang on one host can read where they lie.
 *
 * To allocate them is a collective: each rank makes its own, tells the others where they are, opens
 * theirs, and tells whether it could. Only when all could is the memory used, so that all ranks do
 * the same with it ever after.
 */

import type { SharedFloats } from "./process-group.ts";
import type { MemoryHost, MemoryTicket, OwnedFloats, SharedMemory } from "./shared-memory.ts";

/** Up to this size sums take one hop to everyone: their addends are copied aside first. */
export const STAGED_BYTES_MAX = 512 * 1024;
/** Sums with addends aside that may be under way on one memory. */
export const STAGES = 2;

const FLOAT_BYTES = Float32Array.BYTES_PER_ELEMENT;
/** Room for a ticket as JSON. */
const TICKET_BYTES = 512;

/** One allocation. */
export interface HostMemory {
  /** Counts the allocations of a group: the same on all ranks. */
  readonly id: number;
  /** What its users see of this rank's. */
  readonly floats: SharedFloats;
  /**
   * All of every rank's by rank: as many floats, then {@link STAGES} stages of `stageLength`. This
   * rank's are its own; the others' are read-only: writing to them would end the process.
   */
  readonly byRank: readonly Float32Array[];
  readonly stageLength: number;
}

/** Part of an allocation that a collective works on. */
export interface HostPlace {
  readonly memory: HostMemory;
  /** In floats. */
  readonly begin: number;
  readonly length: number;
}

export interface HostMemoriesOptions {
  readonly rank: number;
  readonly worldSize: number;
  /** Undefined where this rank can share no memory. */
  readonly host: MemoryHost | undefined;
  /** All ranks' values, equally many, in rank order. */
  readonly allGather: (own: Float32Array) => Promise<Float32Array>;
}

/** The allocations of one group. */
export class HostMemories {
  readonly #options: HostMemoriesOptions;
  readonly #byBuffer = new WeakMap<ArrayBufferLike, HostMemory>();
  readonly #opened: { close(): void }[] = [];
  #count = 0;
  #isClosed = false;

  constructor(options: HostMemoriesOptions) {
    this.#options = options;
  }

  /**
   * Zeros, in memory that all ranks share if they can, and in memory of this process if not. Called
   * by all ranks, with the same length.
   */
  async allocate(length: number): Promise<SharedFloats> {
    const stageLength = Math.min(length, STAGED_BYTES_MAX / FLOAT_BYTES);
    const id = this.#count++;
    const own = this.#keep(this.#options.host?.createFloats(length + STAGES * stageLength));
    const byRank = await this.#openAll(own);
    const canUse = await this.#options.allGather(Float32Array.of(byRank === undefined ? 0 : 1));
    if (own === undefined || byRank === undefined || canUse.includes(0)) {
      return new Float32Array(new SharedArrayBuffer(length * FLOAT_BYTES));
    }
    const floats = own.floats.subarray(0, length);
    this.#byBuffer.set(floats.buffer, { id, floats, byRank, stageLength });
    return floats;
  }

  /** Where `floats` lie, if it was allocated here and all ranks share it. */
  find(floats: Float32Array): HostPlace | undefined {
    const memory = this.#byBuffer.get(floats.buffer);
    if (memory === undefined) return undefined;
    const begin = (floats.byteOffset - memory.floats.byteOffset) / FLOAT_BYTES;
    return { memory, begin, length: floats.length };
  }

  /** Nobody may read the other ranks' floats afterwards. This rank's own stay. */
  close(): void {
    this.#isClosed = true;
    for (const memory of this.#opened) memory.close();
    this.#opened.length = 0;
  }

  /** Every rank's floats; undefined when this rank does not have all of them. */
  async #openAll(own: OwnedFloats | undefined): Promise<readonly Float32Array[] | undefined> {
    const { rank, worldSize, host, allGather } = this.#options;
    const tickets = await allGather(encodeTicket(own?.ticket));
    const ticketFloats = TICKET_BYTES / FLOAT_BYTES;
    const byRank = Array.from({ length: worldSize }, (_, other) => {
      if (other === rank) return own?.plain;
      const ticket = decodeTicket(tickets.subarray(other * ticketFloats).subarray(0, ticketFloats));
      const bytes = own?.ticket.bytes;
      return ticket?.bytes === bytes
        ? floatsOf(this.#keep(ticket && host?.open(ticket)))
        : undefined;
    });
    return byRank.includes(undefined) ? undefined : (byRank as Float32Array[]);
  }

  #keep<Memory extends { close(): void }>(memory: Memory | undefined): Memory | undefined {
    if (memory === undefined) return undefined;
    if (this.#isClosed) {
      memory.close();
      return undefined;
    }
    this.#opened.push(memory);
    return memory;
  }
}

function floatsOf(memory: SharedMemory | undefined): Float32Array | undefined {
  if (memory === undefined) return undefined;
  const { buffer, byteOffset, byteLength } = memory.data;
  return new Float32Array(buffer, byteOffset, Math.floor(byteLength / FLOAT_BYTES));
}

/** JSON and spaces, as many bytes for everybody; no floats in truth, but gathers copy bits. */
function encodeTicket(ticket: MemoryTicket | undefined): Float32Array {
  const bytes = Buffer.alloc(TICKET_BYTES, " ");
  bytes.write(JSON.stringify(ticket ?? null));
  return new Float32Array(new Uint8Array(bytes).buffer);
}

/** Of a peer's: whatever is no ticket is none. */
function decodeTicket(floats: Float32Array): MemoryTicket | undefined {
  const { buffer, byteOffset, byteLength } = floats;
  try {
    return JSON.parse(Buffer.from(buffer, byteOffset, byteLength).toString()) ?? undefined;
  } catch {
    return undefined;
  }
}
