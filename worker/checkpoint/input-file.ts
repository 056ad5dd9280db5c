/** A file that is read here and there, by position, without having it in memory. */

import { createHash } from "node:crypto";
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { FleetError } from "../../proto/errors.ts";

const CHUNK_BYTES = 4 * 1024 * 1024;

export class InputFile {
  readonly path: string;
  readonly bytes: number;
  readonly #descriptor: number;

  private constructor(path: string, descriptor: number, bytes: number) {
    this.path = path;
    this.#descriptor = descriptor;
    this.bytes = bytes;
  }

  /** @throws {FleetError} NOT_FOUND, CHECKPOINT_INVALID when it is not to be read */
  static open(path: string): InputFile {
    let descriptor: number;
    try {
      descriptor = openSync(path, "r");
    } catch (thrown) {
      throw unreadable(path, thrown);
    }
    const stats = fstatSync(descriptor);
    if (stats.isFile()) return new InputFile(path, descriptor, stats.size);
    closeSync(descriptor);
    throw new FleetError("CHECKPOINT_INVALID", `${path} is not a file`);
  }

  /**
   * Reads `length` bytes at `begin`, into memory of their own.
   *
   * @throws {FleetError} CHECKPOINT_INVALID where the file does not have them
   */
  read(begin: number, length: number): Uint8Array<ArrayBuffer> {
    const isInside = begin >= 0 && length >= 0 && begin + length <= this.bytes;
    if (!isInside) throw this.#truncated(begin, length);
    const bytes = new Uint8Array(length);
    for (let at = 0; at < length; ) {
      const count = this.#readInto(bytes, at, begin + at);
      if (count === 0) throw this.#truncated(begin, length);
      at += count;
    }
    return bytes;
  }

  /** Of the whole file, in hexadecimal. */
  sha256(): string {
    const hash = createHash("sha256");
    for (let at = 0; at < this.bytes; at += CHUNK_BYTES) {
      hash.update(this.read(at, Math.min(CHUNK_BYTES, this.bytes - at)));
    }
    return hash.digest("hex");
  }

  close(): void {
    closeSync(this.#descriptor);
  }

  #readInto(bytes: Uint8Array, at: number, position: number): number {
    const length = Math.min(bytes.length - at, 2 ** 30);
    try {
      return readSync(this.#descriptor, bytes, at, length, position);
    } catch (thrown) {
      throw unreadable(this.path, thrown);
    }
  }

  #truncated(begin: number, length: number): FleetError {
    return new FleetError(
      "CHECKPOINT_INVALID",
      `${length} bytes at ${begin} lie beyond the end of the file, which has ${this.bytes}`,
    );
  }
}

function unreadable(path: string, thrown: unknown): FleetError {
  const { code, message } = thrown as NodeJS.ErrnoException;
  if (code === "ENOENT") return new FleetError("NOT_FOUND", `${path}: no such file`, {}, thrown);
  return new FleetError("CHECKPOINT_INVALID", `${path} cannot be read: ${message}`, {}, thrown);
}
