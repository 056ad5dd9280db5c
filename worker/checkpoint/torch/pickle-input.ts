/** A pickle's bytes, from front to back; lengths are checked before anything is made of them. */

import { FleetError } from "../../../proto/errors.ts";
import type { PickleStub } from "./pickle-values.ts";

/** Longer texts and numbers are nobody's name or figure: they are passed over. */
const TEXT_BYTES_MAX = 1024 * 1024;
const INTEGER_BYTES_MAX = 64;
const LINE_BYTES_MAX = 4096;
const NEWLINE = 0x0a;

export class PickleInput {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
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
    const end = this.#bytes.indexOf(NEWLINE, this.#at);
    if (end < 0 || end - this.#at > LINE_BYTES_MAX) throw truncated(this.#at);
    const line = this.take(end - this.#at).toString("utf8");
    this.#at += 1;
    return line;
  }

  /** A view of the next bytes. */
  take(length: number): Buffer {
    const begin = this.#at;
    if (length > this.#bytes.length - begin) throw truncated(begin);
    this.#at += length;
    return this.#bytes.subarray(begin, this.#at);
  }
}

function truncated(at: number): FleetError {
  return new FleetError("CHECKPOINT_INVALID", `its pickle is cut off or damaged at byte ${at}`);
}
