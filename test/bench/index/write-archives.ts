/** Archives as large as ImageNet's, of images that hold nothing. */

import { closeSync, openSync, utimesSync, writeSync } from "node:fs";
import path from "node:path";
import { tarHeader } from "../../worker/data/sample-data.ts";
import type { IndexSpec } from "./spec.ts";

const PIECE_BYTES = 8 * 1024 * 1024;
const BLOCK = 512;
/** A fresh archive might still change, so that no index of it would be kept. */
const AGE_S = 3600;

/** @returns the archives; class by class, in an order within each class that is not sorted */
export async function writeArchives(
  folder: string,
  spec: Omit<IndexSpec, "reads">,
  signal: AbortSignal,
): Promise<string[]> {
  const files: string[] = [];
  for (let shard = 0; shard < spec.shards; shard++) {
    const file = path.join(folder, `train-${String(shard).padStart(4, "0")}.tar`);
    await writeArchive(file, spec, shard, signal);
    const then = Date.now() / 1000 - AGE_S;
    utimesSync(file, then, then);
    files.push(file);
  }
  return files;
}

async function writeArchive(
  file: string,
  { images, bytes, classes, shards }: Omit<IndexSpec, "reads">,
  shard: number,
  signal: AbortSignal,
): Promise<void> {
  const contents = Buffer.alloc(Math.ceil(bytes / BLOCK) * BLOCK, 7);
  const begin = Math.floor((shard * images) / shards);
  const end = Math.floor(((shard + 1) * images) / shards);
  const descriptor = openSync(file, "w");
  let parts: Buffer[] = [];
  let pending = 0;
  const flush = async (): Promise<void> => {
    writeSync(descriptor, Buffer.concat(parts));
    parts = [];
    pending = 0;
    await new Promise(setImmediate);
    signal.throwIfAborted();
  };
  try {
    for (let i = begin; i < end; i++) {
      parts.push(tarHeader(nameOf(i, images, classes), bytes, "0"), contents);
      pending += BLOCK + contents.length;
      if (pending >= PIECE_BYTES) await flush();
    }
    parts.push(Buffer.alloc(2 * BLOCK));
    await flush();
  } finally {
    closeSync(descriptor);
  }
}

/** As ImageNet's are named, e.g. "n01440764/n01440764_10026.JPEG". */
function nameOf(image: number, images: number, classes: number): string {
  const label = Math.floor((image * classes) / images);
  const folder = `n${String(1_440_764 + 37 * label).padStart(8, "0")}`;
  // Odd, so that no number comes twice.
  const number = (image * 7919) % 2 ** 24;
  return `${folder}/${folder}_${number}.JPEG`;
}
