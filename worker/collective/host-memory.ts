/**
 * Floats that every rank of a gang on one host can read where they lie.
 *
 * To allocate them is a collective: each rank makes its own, tells the others where they are, opens
 * theirs, and tells whether it could. Only when all could is the memory used, so that all ranks do
 * the same with it ever after.
 */

import { type SharedFloats, sharedFloats } from "./process-group.ts";
import type { MemoryHost, MemoryTicket, SharedMemory } from "./shared-memory.ts";

const FLOAT_BYTES = Float32Array.BYTES_PER_ELEMENT;
/** Room for a ticket as JSON. */
const TICKET_BYTES = 512;

/** One allocation. */
export interface HostMemory {
  /** Counts the allocations of a group: the same on all ranks. */
  readonly id: number;
  /** This rank's, as its users hold it. */
  readonly floats: SharedFloats;
  /**
   * Every rank's, this one's included. The others' are read-only: writing to them would end the
   * process.
   */
  readonly byRank: readonly Float32Array[];
  readonly tickets: readonly MemoryTicket[];
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
    const memory = await this.share(length);
    if (memory === undefined) return sharedFloats(length);
    this.#byBuffer.set(memory.floats.buffer, memory);
    return memory.floats;
  }

  /** The same on all ranks, zeros; undefined, on all ranks, if not all can. */
  async share(length: number): Promise<HostMemory | undefined> {
    const id = this.#count++;
    const { rank, host, allGather } = this.#options;
    const own = this.#keep(host?.createFloats(length));
    const tickets = decodeTickets(await allGather(encodeTicket(own?.ticket)));
    const byRank = tickets.map((ticket, other) => {
      if (own === undefined || ticket?.bytes !== own.ticket.bytes) return undefined;
      if (other === rank) return host?.plainViewOf(own.floats);
      return floatsOf(this.#keep(host?.open(ticket)));
    });
    const canUse = own !== undefined && !byRank.includes(undefined);
    const canAllUse = !(await allGather(Float32Array.of(canUse ? 1 : 0))).includes(0);
    if (own === undefined || !canAllUse || this.#isClosed) return undefined;
    return {
      id,
      floats: own.floats,
      byRank: byRank as Float32Array[],
      tickets: tickets as MemoryTicket[],
    };
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

/** By rank; whatever is no ticket is none. */
function decodeTickets({ buffer, byteOffset, byteLength }: Float32Array) {
  return Array.from({ length: byteLength / TICKET_BYTES }, (_, rank) => {
    const text = Buffer.from(buffer, byteOffset + rank * TICKET_BYTES, TICKET_BYTES).toString();
    try {
      return (JSON.parse(text) as MemoryTicket | null) ?? undefined;
    } catch {
      return undefined;
    }
  });
}
