/**
 * Many names without an object for each: UTF-8, one after the other.
 *
 * A million names of JavaScript take a hundred megabytes and make the collector of garbage slow;
 * these take the bytes that they have.
 */

import { isUtf8 } from "node:buffer";

/** Name i is `bytes[end[i - 1] or 0, end[i])`. */
export interface Names {
  readonly bytes: Uint8Array;
  readonly end: Uint32Array;
}

type NumberArray = Uint8Array | Int32Array | Uint32Array | Float64Array;

const BYTES_FIRST = 64 * 1024;
const NAMES_FIRST = 4096;
/** Of UTF-8 for one code unit of UTF-16. */
const BYTES_PER_UNIT_MAX = 3;

/** Grows as names are added. */
export class NameList implements Names {
  bytes = new Uint8Array(BYTES_FIRST);
  end = new Uint32Array(NAMES_FIRST);
  count = 0;

  /** Adds `source[begin, end)`; what is no UTF-8 is replaced as `Buffer.toString` replaces it. */
  add(source: Uint8Array, begin = 0, end = source.length): void {
    const name = source.subarray(begin, end);
    if (!isUtf8(name)) {
      this.addText(Buffer.from(name).toString("utf8"));
      return;
    }
    const at = this.#makeRoom(name.length);
    this.bytes.set(name, at);
    this.end[this.count++] = at + name.length;
  }

  addText(name: string): void {
    const at = this.#makeRoom(name.length * BYTES_PER_UNIT_MAX);
    const { bytes } = this;
    const written = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).write(name, at);
    this.end[this.count++] = at + written;
  }

  removeLast(): void {
    this.count--;
  }

  /** @returns where the next name begins */
  #makeRoom(bytes: number): number {
    const at = nameBegin(this, this.count);
    this.bytes = withRoom(this.bytes, at + bytes);
    this.end = withRoom(this.end, this.count + 1);
    return at;
  }
}

export function nameBegin({ end }: Names, index: number): number {
  return index === 0 ? 0 : end[index - 1]!;
}

export function nameText(names: Names, index: number): string {
  const begin = nameBegin(names, index);
  return Buffer.from(names.bytes.subarray(begin, names.end[index])).toString("utf8");
}

/** The array, or a copy twice as long, so that it holds at least `length` values. */
export function withRoom<T extends NumberArray>(array: T, length: number): T {
  if (length <= array.length) return array;
  const ArrayType = array.constructor as new (length: number) => T;
  const larger = new ArrayType(Math.max(length, 2 * array.length));
  larger.set(array);
  return larger;
}
