/** Finds names by their bytes: a hash table of numbers, linear probing. */

import { type NameList, nameBegin } from "./name-list.ts";

/** Share of the table that stays free, at least. */
const SLOTS_PER_NAME = 2;

export class NameLookup {
  readonly #names: NameList;
  /** 1 + the number of a name; 0 is free. */
  readonly #slots: Int32Array;

  /** Of several names that are the same, the last one is found. */
  constructor(names: NameList) {
    this.#names = names;
    this.#slots = new Int32Array(2 ** Math.ceil(Math.log2(SLOTS_PER_NAME * names.count + 1)));
    for (let i = 0; i < names.count; i++) {
      const slot = this.#slotOf(names.bytes, nameBegin(names, i), names.end[i]!);
      this.#slots[slot] = i + 1;
    }
  }

  /** Number of the name that is `bytes[begin, end)`. */
  find(bytes: Uint8Array, begin: number, end: number): number | undefined {
    const found = this.#slots[this.#slotOf(bytes, begin, end)]!;
    return found === 0 ? undefined : found - 1;
  }

  /** The slot of the name, or the free one that it would take. */
  #slotOf(bytes: Uint8Array, begin: number, end: number): number {
    const mask = this.#slots.length - 1;
    let slot = hash(bytes, begin, end) & mask;
    for (let held = this.#slots[slot]!; held !== 0; held = this.#slots[slot]!) {
      if (this.#isName(held - 1, bytes, begin, end)) return slot;
      slot = (slot + 1) & mask;
    }
    return slot;
  }

  #isName(name: number, bytes: Uint8Array, begin: number, end: number): boolean {
    const own = nameBegin(this.#names, name);
    if (this.#names.end[name]! - own !== end - begin) return false;
    for (let i = 0; i < end - begin; i++) {
      if (this.#names.bytes[own + i] !== bytes[begin + i]) return false;
    }
    return true;
  }
}

/** FNV-1a (Fowler, Noll and Vo), 32 bits, with its bits spread once more. */
function hash(bytes: Uint8Array, begin: number, end: number): number {
  let h = 0x811c9dc5;
  for (let at = begin; at < end; at++) h = Math.imul(h ^ bytes[at]!, 0x01000193);
  return h ^ (h >>> 15);
}
