/**
 * Index of a tar file: where in it each regular file lies, so that images are read by offset.
 *
 * Understands ustar, GNU long names and base-256 sizes, and PAX `path` and `size`. Only headers are
 * read; a file that ends before its last entry does is refused at once, not when training reaches
 * it. Everything here blocks, and makes no object per entry: a million of them is usual.
 */

import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { FleetError } from "../../../proto/errors.ts";

const BLOCK = 512;
/** Headers this close together are read many at a time; else one by one, leaving the data out. */
const NEAR_BYTES = 32 * 1024;
const WIDE_READ_BYTES = 256 * 1024;
/** A PAX or GNU name record larger than this is a damaged header. */
const RECORD_BYTES_MAX = 1024 * 1024;
/** Of a ustar name: prefix, slash and name. */
const NAME_BYTES_MAX = 155 + 1 + 100;

const DOT = 0x2e;
const SLASH = 0x2f;
const SPACE = 0x20;
const ZERO = 0x30;
const SEVEN = 0x37;

/** Values of a header's type. */
const REGULAR = new Set([0, ZERO]);
const LONG_NAME = 0x4c;
const LONG_LINK = 0x4b;
const PAX = 0x78;
const PAX_GLOBAL = 0x67;

const USTAR = Buffer.from("ustar\0");

/**
 * Is called for a regular file.
 *
 * @param name in UTF-8, without a leading "./"; valid during the call only
 * @param offset of the first byte of the contents in the archive
 */
type OnFile = (name: Uint8Array, offset: number, bytes: number) => void;

/**
 * Lists the regular files of an uncompressed tar archive, in archive order. Blocks.
 *
 * @throws {FleetError} DATA_INVALID naming the file and the position of the damage
 */
export function indexTar(path: string, onFile: OnFile): void {
  const file = openSync(path, "r");
  try {
    listEntries(new HeaderReader(path, file), onFile);
  } finally {
    closeSync(file);
  }
}

function listEntries(reader: HeaderReader, onFile: OnFile): void {
  let longName: Buffer | undefined;
  let pax: Pax = {};
  let at = 0;
  while (reader.readHeader(at)) {
    const bytes = pax.bytes ?? reader.bytes;
    const offset = at + BLOCK;
    reader.checkInside(offset, bytes);
    at = offset + Math.ceil(bytes / BLOCK) * BLOCK;

    if (reader.type === LONG_NAME) {
      longName = upToZero(reader.record(offset, bytes));
    } else if (reader.type === PAX) {
      pax = parsePax(reader.record(offset, bytes));
    } else if (reader.type !== PAX_GLOBAL && reader.type !== LONG_LINK) {
      const name = pax.path ?? longName ?? reader.name;
      if (REGULAR.has(reader.type)) onFile(withoutDot(name), offset, bytes);
      longName = undefined;
      pax = {};
    }
  }
}

/** What a PAX record says of the entry that follows. */
interface Pax {
  readonly path?: Buffer;
  readonly bytes?: number;
}

/** Records are "LENGTH KEY=VALUE\n", LENGTH being that of the whole record in bytes. */
function parsePax(bytes: Buffer): Pax {
  let pax: Pax = {};
  let at = 0;
  while (at < bytes.length) {
    const space = bytes.indexOf(" ", at);
    const length = Number(bytes.toString("utf8", at, space));
    if (space < 0 || !(length > space - at)) break;
    const value = bytes.indexOf("=", space) + 1;
    const key = bytes.toString("utf8", space + 1, value - 1);
    const end = at + length - 1;
    if (key === "path") pax = { ...pax, path: bytes.subarray(value, end) };
    if (key === "size") pax = { ...pax, bytes: Number(bytes.toString("utf8", value, end)) };
    at += length;
  }
  return pax;
}

/** Reads headers, in the order of the archive. */
class HeaderReader {
  /** Of the header that was read last. */
  type = 0;
  bytes = 0;
  name: Buffer = Buffer.alloc(0);

  readonly #path: string;
  readonly #file: number;
  readonly #size: number;
  readonly #buffer = Buffer.alloc(WIDE_READ_BYTES);
  readonly #joinedName = Buffer.alloc(NAME_BYTES_MAX);
  /** Archive bytes [#windowAt, #windowEnd) are in the buffer. */
  #windowAt = 0;
  #windowEnd = 0;
  #lastAt = 0;

  constructor(path: string, file: number) {
    this.#path = path;
    this.#file = file;
    this.#size = fstatSync(file).size;
  }

  /** Reads the header at `at`. @returns false at the end of the archive */
  readHeader(at: number): boolean {
    if (at === this.#size && at > 0) return false;
    if (at + BLOCK > this.#size) throw this.#damaged(`is truncated at byte ${this.#size}`);
    const begin = this.#fetch(at);
    const block = this.#buffer.subarray(begin, begin + BLOCK);
    const sum = checksumOf(block);
    // Blanks in place of the checksum are all there is: an empty block.
    if (sum === 8 * SPACE && block.every((byte) => byte === 0)) return false;
    if (sum !== parseNumber(block, 148, 8)) {
      const what = block.readUInt16BE(0) === 0x1f8b ? "is compressed; unpack it first" : undefined;
      throw this.#damaged(what ?? `is not a tar archive, or damaged, at byte ${at}`);
    }
    this.type = block[156]!;
    this.bytes = parseNumber(block, 124, 12);
    const name = upToZero(block.subarray(0, 100));
    const hasPrefix = block[345] !== 0 && block.compare(USTAR, 0, USTAR.length, 257, 263) === 0;
    this.name = hasPrefix ? this.#join(upToZero(block.subarray(345, 500)), name) : name;
    return true;
  }

  /** Contents of a name record. */
  record(offset: number, bytes: number): Buffer {
    if (bytes > RECORD_BYTES_MAX) throw this.#damaged(`is damaged at byte ${offset}`);
    const buffer = Buffer.alloc(bytes);
    readSync(this.#file, buffer, 0, bytes, offset);
    return buffer;
  }

  checkInside(offset: number, bytes: number): void {
    if (!(bytes >= 0)) throw this.#damaged(`is damaged at byte ${offset - BLOCK}`);
    if (offset + bytes <= this.#size) return;
    const needed = `${this.name.toString("utf8")} needs ${offset + bytes} bytes`;
    throw this.#damaged(`is truncated: ${needed}, the file has ${this.#size}`);
  }

  /** @returns where in the buffer the block lies */
  #fetch(at: number): number {
    if (at < this.#windowAt || at + BLOCK > this.#windowEnd) {
      const length = at - this.#lastAt < NEAR_BYTES ? WIDE_READ_BYTES : BLOCK;
      const wanted = Math.min(length, this.#size - at);
      const got = readSync(this.#file, this.#buffer, 0, wanted, at);
      if (got < BLOCK) throw this.#damaged(`ends at byte ${at + got} while it is read`);
      this.#windowAt = at;
      this.#windowEnd = at + got;
    }
    this.#lastAt = at;
    return at - this.#windowAt;
  }

  #join(prefix: Buffer, name: Buffer): Buffer {
    prefix.copy(this.#joinedName);
    this.#joinedName[prefix.length] = SLASH;
    name.copy(this.#joinedName, prefix.length + 1);
    return this.#joinedName.subarray(0, prefix.length + 1 + name.length);
  }

  #damaged(what: string): FleetError {
    return new FleetError("DATA_INVALID", `${this.#path} ${what}`, { path: this.#path });
  }
}

/** Sum of the bytes, with blanks in place of the checksum itself. */
function checksumOf(block: Uint8Array): number {
  let sum = 8 * SPACE;
  for (let i = 0; i < 148; i++) sum += block[i]!;
  for (let i = 156; i < BLOCK; i++) sum += block[i]!;
  return sum;
}

function upToZero(text: Buffer): Buffer {
  const end = text.indexOf(0);
  return end < 0 ? text : text.subarray(0, end);
}

function withoutDot(name: Buffer): Buffer {
  let begin = 0;
  while (name[begin] === DOT && name[begin + 1] === SLASH) begin += 2;
  return name.subarray(begin);
}

/** Octal digits or, with the top bit set, a big-endian integer (GNU, for 8 GiB and more). */
function parseNumber(block: Uint8Array, begin: number, length: number): number {
  const end = begin + length;
  if ((block[begin]! & 0x80) !== 0) {
    let value = block[begin]! & 0x7f;
    for (let i = begin + 1; i < end; i++) value = value * 256 + block[i]!;
    return value;
  }
  let at = begin;
  while (at < end && block[at] === SPACE) at++;
  const first = at;
  let value = 0;
  for (; at < end && block[at]! >= ZERO && block[at]! <= SEVEN; at++) {
    value = value * 8 + block[at]! - ZERO;
  }
  const isEmpty = at === end || block[at] === 0 || block[at] === SPACE;
  return at > first || isEmpty ? value : Number.NaN;
}
