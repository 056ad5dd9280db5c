/** Reads the encoded images of a data set: whole files, or pieces of tar files. */

import { closeSync, openSync, readFileSync, readSync } from "node:fs";
import { type Dataset, imageName } from "./dataset.ts";

/** Tar files held open at a time; far below the usual limit of 1024 files per process. */
const OPEN_TARS_MAX = 32;

/**
 * One per loader thread. Reads block: loader threads have nothing better to do, and small reads
 * cost much less this way than through the thread pool, which decoding needs.
 */
export class EntryReader {
  readonly #dataset: Dataset;
  /** File descriptors by number of the tar; the least recently used comes first. */
  readonly #open = new Map<number, number>();

  constructor(dataset: Dataset) {
    this.#dataset = dataset;
  }

  /** @throws {Error} from the file system, or one that completes the sentence "FILE ..." */
  read(index: number): Buffer {
    const { storage } = this.#dataset;
    if (storage.type === "files") return readFileSync(imageName(this.#dataset, index));

    const bytes = storage.bytes[index]!;
    const buffer = Buffer.allocUnsafe(bytes);
    const file = this.#descriptor(storage.tars, storage.tar[index]!);
    let done = 0;
    while (done < bytes) {
      const got = readSync(file, buffer, done, bytes - done, storage.offset[index]! + done);
      if (got === 0) throw new Error(`is cut off: the archive ends ${bytes - done} bytes early`);
      done += got;
    }
    return buffer;
  }

  close(): void {
    for (const file of this.#open.values()) closeSync(file);
    this.#open.clear();
  }

  #descriptor(tars: readonly string[], tar: number): number {
    const file = this.#open.get(tar) ?? openSync(tars[tar]!, "r");
    this.#open.delete(tar);
    this.#open.set(tar, file);
    if (this.#open.size > OPEN_TARS_MAX) {
      const [oldest, descriptor] = this.#open.entries().next().value!;
      this.#open.delete(oldest);
      closeSync(descriptor);
    }
    return file;
  }
}
