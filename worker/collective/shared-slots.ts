/**
 * Bulk payloads in shared memory: the sender puts each into the next slot, the receiver says now
 * and then how many it has read, and a slot is used again once its payload has been read.
 */

import { frameError } from "./frame.ts";
import { CHUNK_BYTES } from "./frame-order.ts";
import type { MemoryHost, MemoryTicket, OwnedMemory, SharedMemory } from "./shared-memory.ts";

/** Enough for the sender to go on while the receiver is off its processor. */
const SLOTS = 16;

export interface Slot {
  /** Where it begins in the shared memory. */
  readonly place: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** The sender's side. */
export class SharedOutbox {
  readonly #memory: OwnedMemory;
  #isOpened = false;
  #put = 0;
  #taken = 0;

  private constructor(memory: OwnedMemory) {
    this.#memory = memory;
  }

  /** Undefined when the system gives no memory: then payloads go with their frames. */
  static of(host: MemoryHost | undefined): SharedOutbox | undefined {
    const memory = host?.create(SLOTS * CHUNK_BYTES);
    return memory && new SharedOutbox(memory);
  }

  /** For the receiver. */
  get ticket(): MemoryTicket {
    return this.#memory.ticket;
  }

  /** Whether payloads go this way. */
  get isOpened(): boolean {
    return this.#isOpened;
  }

  /** The receiver has the memory open. */
  opened(): void {
    this.#isOpened = true;
  }

  get isReady(): boolean {
    return this.#put - this.#taken < SLOTS;
  }

  /** The next slot, for a payload of `bytes`. To be called only when ready. */
  put(bytes: number): Slot {
    const place = (this.#put++ % SLOTS) * CHUNK_BYTES;
    return { place, bytes: this.#memory.data.subarray(place, place + bytes) };
  }

  /** The receiver has read `total` payloads so far. */
  taken(total: number): void {
    if (total <= this.#taken || total > this.#put) {
      const text = `${total} payloads taken, of ${this.#put} there were ${this.#taken} before`;
      throw frameError(total <= this.#taken ? "REPEATED" : "MISMATCHED", text);
    }
    this.#taken = total;
  }

  close(): void {
    this.#memory.close();
  }
}

/** The receiver's side. */
export class SharedInbox {
  readonly #memory: SharedMemory;
  readonly #report: (total: number) => void;
  #taken = 0;
  #reported = 0;

  /** @param report tells the sender how many payloads have been read so far */
  constructor(memory: SharedMemory, report: (total: number) => void) {
    this.#memory = memory;
    this.#report = report;
  }

  get data(): Uint8Array {
    return this.#memory.data;
  }

  /** One payload has been read. */
  take(): void {
    this.#taken++;
  }

  /** Tells the sender what it does not know yet. */
  report(): void {
    if (this.#taken > this.#reported) this.#report(this.#taken);
    this.#reported = this.#taken;
  }

  close(): void {
    this.#memory.close();
  }
}
