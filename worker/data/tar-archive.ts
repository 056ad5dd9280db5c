/**
 * Index of a tar file: where in it each regular file lies, so that images are read by offset.
 *
 * Understands ustar, GNU long names and base-256 sizes, and PAX `path` and `size`. Only headers are
 * read; a file that ends before its last entry does is refused at once, not when training reaches
 * it.
 */

import { type FileHandle, open } from "node:fs/promises";
import { FleetError } from "../../proto/errors.ts";

const BLOCK = 512;
/** Headers this close together are read many at a time; else one by one, leaving the data out. */
const NEAR_BYTES = 32 * 1024;
const WIDE_READ_BYTES = 256 * 1024;
/** A PAX or GNU name record larger than this is a damaged header. */
const RECORD_BYTES_MAX = 1024 * 1024;

export interface TarEntry {
  /** As in the archive, without a leading "./". */
  readonly name: string;
  /** Position of the first byte of the contents in the archive. */
  readonly offset: number;
  readonly bytes: number;
}

interface Header {
  readonly type: string;
  readonly name: string;
  readonly bytes: number;
}

/**
 * Lists the regular files of an uncompressed tar archive, in archive order.
 *
 * @throws {FleetError} DATA_INVALID naming the file and the position of the damage
 */
export async function indexTar(path: string): Promise<TarEntry[]> {
  const file = await open(path);
  try {
    const reader = new HeaderReader(path, file, (await file.stat()).size);
    return await listEntries(reader);
  } finally {
    await file.close();
  }
}

async function listEntries(reader: HeaderReader): Promise<TarEntry[]> {
  const entries: TarEntry[] = [];
  let longName: string | undefined;
  let pax = new Map<string, string>();
  let at = 0;
  for (;;) {
    const header = await reader.header(at);
    if (header === undefined) return entries;
    const bytes = Number(pax.get("size") ?? header.bytes);
    const offset = at + BLOCK;
    reader.checkInside(header.name, offset, bytes);
    at = offset + Math.ceil(bytes / BLOCK) * BLOCK;

    if (header.type === "L") {
      longName = (await reader.record(offset, bytes)).replace(/\0.*$/s, "");
    } else if (header.type === "x") {
      pax = parsePax(await reader.record(offset, bytes));
    } else if (header.type !== "g" && header.type !== "K") {
      const name = (pax.get("path") ?? longName ?? header.name).replace(/^(\.\/)+/, "");
      if (/[0\0]/.test(header.type)) entries.push({ name, offset, bytes });
      longName = undefined;
      pax = new Map();
    }
  }
}

/** Records are "LENGTH KEY=VALUE\n", LENGTH being that of the whole record in bytes. */
function parsePax(text: string): Map<string, string> {
  const values = new Map<string, string>();
  const bytes = Buffer.from(text, "utf8");
  let at = 0;
  while (at < bytes.length) {
    const space = bytes.indexOf(" ", at);
    const length = Number(bytes.toString("utf8", at, space));
    if (space < 0 || !(length > space - at)) break;
    const record = bytes.toString("utf8", space + 1, at + length - 1);
    const equals = record.indexOf("=");
    values.set(record.slice(0, equals), record.slice(equals + 1));
    at += length;
  }
  return values;
}

class HeaderReader {
  readonly #path: string;
  readonly #file: FileHandle;
  readonly #size: number;
  #window: Buffer = Buffer.alloc(0);
  #windowAt = 0;
  #lastAt = 0;

  constructor(path: string, file: FileHandle, size: number) {
    this.#path = path;
    this.#file = file;
    this.#size = size;
  }

  /** The header at `at`, or undefined at the end of the archive. */
  async header(at: number): Promise<Header | undefined> {
    if (at === this.#size && at > 0) return undefined;
    if (at + BLOCK > this.#size) throw this.#damaged(`is truncated at byte ${this.#size}`);
    const block = await this.#block(at);
    if (block.every((byte) => byte === 0)) return undefined;
    const sum = block.reduce((total, byte, i) => total + (i >= 148 && i < 156 ? 32 : byte), 0);
    if (sum !== parseNumber(block, 148, 8)) {
      const what = block.readUInt16BE(0) === 0x1f8b ? "is compressed; unpack it first" : undefined;
      throw this.#damaged(what ?? `is not a tar archive, or damaged, at byte ${at}`);
    }
    const isUstar = block.toString("latin1", 257, 263) === "ustar\0";
    const prefix = isUstar ? parseText(block, 345, 155) : "";
    const name = parseText(block, 0, 100);
    return {
      type: block.toString("latin1", 156, 157),
      name: prefix === "" ? name : `${prefix}/${name}`,
      bytes: parseNumber(block, 124, 12),
    };
  }

  /** Contents of a name record. */
  async record(offset: number, bytes: number): Promise<string> {
    if (bytes > RECORD_BYTES_MAX) throw this.#damaged(`is damaged at byte ${offset}`);
    const buffer = Buffer.alloc(bytes);
    await this.#file.read(buffer, 0, bytes, offset);
    return buffer.toString("utf8");
  }

  checkInside(name: string, offset: number, bytes: number): void {
    if (!(bytes >= 0)) throw this.#damaged(`is damaged at byte ${offset - BLOCK}`);
    if (offset + bytes <= this.#size) return;
    throw this.#damaged(
      `is truncated: ${name} needs ${offset + bytes} bytes, the file has ${this.#size}`,
    );
  }

  async #block(at: number): Promise<Buffer> {
    const end = this.#windowAt + this.#window.length;
    if (at < this.#windowAt || at + BLOCK > end) {
      const length = at - this.#lastAt < NEAR_BYTES ? WIDE_READ_BYTES : BLOCK;
      const buffer = Buffer.allocUnsafe(Math.min(length, this.#size - at));
      const { bytesRead } = await this.#file.read(buffer, 0, buffer.length, at);
      if (bytesRead < BLOCK) throw this.#damaged(`ends at byte ${at + bytesRead} while it is read`);
      this.#window = buffer.subarray(0, bytesRead);
      this.#windowAt = at;
    }
    this.#lastAt = at;
    return this.#window.subarray(at - this.#windowAt, at - this.#windowAt + BLOCK);
  }

  #damaged(what: string): FleetError {
    return new FleetError("DATA_INVALID", `${this.#path} ${what}`, { path: this.#path });
  }
}

function parseText(block: Buffer, begin: number, length: number): string {
  const end = block.indexOf(0, begin);
  const limit = begin + length;
  return block.toString("utf8", begin, end < 0 || end > limit ? limit : end);
}

/** Octal digits or, with the top bit set, a big-endian integer (GNU, for 8 GiB and more). */
function parseNumber(block: Buffer, begin: number, length: number): number {
  if ((block[begin]! & 0x80) === 0) {
    return Number.parseInt(parseText(block, begin, length).trim() || "0", 8);
  }
  let value = block[begin]! & 0x7f;
  for (let i = begin + 1; i < begin + length; i++) value = value * 256 + block[i]!;
  return value;
}
