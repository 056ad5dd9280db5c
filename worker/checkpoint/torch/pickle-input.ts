/**
 * A pickle's bytes, from front to back, out of a file of which it may be a small part. Lengths are
 * checked before anything is made of them.
 */

import { FleetError } from "../../../proto/errors.ts";
import type { PickleStub } from "./pickle-values.ts";

/** Longer texts and numbers are nobody's name or figure: they are passed over. */
const TEXT_BYTES_MAX = 1024 * 1024;
const INTEGER_BYTES_MAX = 64;
const LINE_BYTES_MAX = 4096;
const NEWLINE = 0x0a;
const WINDOW_BYTES = 1024 * 1024;

/** Where the bytes are: a file, or memory. */
interface ByteSource {
  readonly bytes: number;
  read(begin: number, length: number): Uint8Array;
}

export class PickleInput {
  readonly #source: ByteSource;
  /** The bytes from `#windowBegin` on that are in memory. */
  #window: Buffer = Buffer.alloc(0);
  #windowBegin = 0;
  #at = 0;

  constructor(source: ByteSource) {
    this.#source = source;
  }

  static of(bytes: Uint8Array): PickleInput {
    const read = (begin: number, length: number) => bytes.subarray(begin, begin + length);
    return new PickleInput({ bytes: bytes.length, read });
  }

  /** How far it has been read. */
  get position(): number {
    return this.#at;
  }

  unsigned(width: 1 | 2 | 4): number {
    return this.take(width).readUIntLE(0, width);
  }

  /** A length beyond 2^53 becomes one that no file has. */
  unsigned64(): number {
    return Number(this.take(8).readBigUInt64LE());
  }

  int32(): number {
    return this.take(4).readInt32LE();
  }

  /** The one big-endian number in a pickle. */
  float64(): number {
    return this.take(8).readDoubleBE();
  }

  /** Two's complement, little-endian. */
  integer(length: number): number | bigint | PickleStub {
    const bytes = this.take(length);
    if (length > INTEGER_BYTES_MAX) return { type: "stub", of: "builtins.int" };
    let value = 0n;
    for (const byte of bytes.toReversed()) value = (value << 8n) | BigInt(byte);
    const signed = BigInt.asIntN(8 * length, value);
    const number = Number(signed);
    return Number.isSafeInteger(number) ? number : signed;
  }

  text(length: number): string | PickleStub {
    const bytes = this.take(length);
    if (length > TEXT_BYTES_MAX) return { type: "stub", of: "builtins.str" };
    return bytes.toString("utf8");
  }

  /** Up to the next newline, which is passed. */
  line(): string {
    const begin = this.#at;
    const rest = this.take(Math.min(LINE_BYTES_MAX, this.#source.bytes - begin));
    const length = rest.indexOf(NEWLINE);
    if (length < 0) throw truncated(begin);
    this.#at = begin + length + 1;
    return rest.toString("utf8", 0, length);
  }

  /** A view of the next bytes. */
  take(length: number): Buffer {
    const begin = this.#at;
    const left = this.#source.bytes - begin;
    if (length > left) throw truncated(begin);
    if (begin < this.#windowBegin || begin + length > this.#windowBegin + this.#window.length) {
      const bytes = this.#source.read(begin, Math.min(left, Math.max(length, WINDOW_BYTES)));
      this.#window = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      this.#windowBegin = begin;
    }
    this.#at += length;
    return this.#window.subarray(begin - this.#windowBegin, this.#at - this.#windowBegin);
  }
}

function truncated(at: number): FleetError {
  return new FleetError("CHECKPOINT_INVALID", `its pickle is cut off or damaged at byte ${at}`);
}
