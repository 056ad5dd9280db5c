/** Small data sets on disk, made by the tests that use them. */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import type { DataRecipe } from "../../../proto/recipe.ts";

export interface SampleFolder {
  readonly path: string;
  write(name: string, contents: Buffer | string): void;
  remove(): void;
}

/** A new folder for temporary files; writing makes the folders on the way. */
export function sampleFolder(): SampleFolder {
  const root = mkdtempSync(path.join(tmpdir(), "fleet-data-"));
  return {
    path: root,
    write(name, contents) {
      const file = path.join(root, name);
      mkdirSync(path.dirname(file), { recursive: true });
      writeFileSync(file, contents);
    },
    remove() {
      rmSync(root, { recursive: true, force: true });
    },
  };
}

/** A 12 x 10 PPM whose pixels tell the images apart. */
export function samplePicture(number: number): Buffer {
  const pixels = Buffer.alloc(12 * 10 * 3);
  for (let i = 0; i < pixels.length; i++) pixels[i] = (i * 7 + number * 101) % 256;
  return Buffer.concat([Buffer.from("P6 12 10 255\n"), pixels]);
}

/** The data part of a recipe. */
export function dataRecipe(
  root: string,
  train: DataRecipe["train"],
  val: DataRecipe["val"] = train,
): DataRecipe {
  const mean: [number, number, number] = [0, 0, 0];
  const std: [number, number, number] = [1, 1, 1];
  return { root, train, val, imageSize: 8, mean, std, scaledDecoding: true, skipLimit: 100 };
}

/** What the plans of a lone worker with such data have in common. */
export function planOf(imageSize: number) {
  const place = { seed: 7, rank: 0, worldSize: 1, batchPerWorker: 4 };
  return { ...place, imageSize, scaledDecoding: true, skipLimit: 9 };
}

export interface TarMember {
  readonly name: string;
  readonly contents: Buffer;
  /** One character; "0", a regular file, when absent. */
  readonly type?: string;
}

/** A tar archive in ustar form, with the two empty blocks at its end. */
export function tarOf(members: readonly TarMember[]): Buffer {
  const parts = members.flatMap(({ name, contents, type = "0" }) => [
    tarHeader(name, contents.length, type),
    contents,
    Buffer.alloc((512 - (contents.length % 512)) % 512),
  ]);
  return Buffer.concat([...parts, Buffer.alloc(1024)]);
}

export function tarHeader(name: string, bytes: number, type: string): Buffer {
  const header = Buffer.alloc(512);
  header.write(name.slice(-100), 0, 100, "utf8");
  header.write("0000644", 100);
  header.write(bytes.toString(8).padStart(11, "0"), 124);
  // The checksum is taken with blanks in its own place.
  header.write(" ".repeat(8), 148);
  header.write(type, 156);
  header.write("ustar\x0000", 257);
  let sum = 0;
  for (const byte of header) sum += byte;
  header.write(`${sum.toString(8).padStart(6, "0")}\0`, 148);
  return header;
}
