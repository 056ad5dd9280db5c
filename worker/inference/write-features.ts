/** Features on disk, a row per image, in the format that the file's name asks for. */

import { existsSync } from "node:fs";
import path from "node:path";
import { writeAtomically } from "../../proto/durable-file.ts";
import { FleetError } from "../../proto/errors.ts";
import { encodeSafetensors } from "../checkpoint/safetensors.ts";

export interface FeatureTable {
  /** Name of each row. */
  readonly images: readonly string[];
  /** All of one length; at least one. */
  readonly rows: readonly Float32Array[];
}

const ENCODERS: Readonly<Record<string, (table: FeatureTable) => Iterable<Uint8Array>>> = {
  ".npy": encodeNpy,
  ".safetensors": encodeTensors,
  ".json": encodeJson,
};

/** .npy pads its header so that the numbers behind it are aligned. */
const NPY_ALIGNMENT = 64;
const NPY_MAGIC = Buffer.from("\x93NUMPY\x01\x00", "latin1");

/**
 * To be called before hours of work, so that they are not lost to a wrong name.
 *
 * @throws {FleetError} USAGE for another ending; STORAGE_FAILED when its folder does not exist
 */
export function checkFeatureFile(file: string): void {
  if (ENCODERS[path.extname(file)] === undefined) {
    const endings = Object.keys(ENCODERS).join(", ");
    throw new FleetError("USAGE", `${file}: must end in one of ${endings}`);
  }
  const folder = path.dirname(file);
  if (!existsSync(folder)) {
    throw new FleetError(
      "STORAGE_FAILED",
      `${file} cannot be written: there is no folder ${folder}`,
    );
  }
}

/**
 * Writes a file whole or not at all. Only .safetensors (as metadata) and .json keep the images'
 * names; the rows of .npy are in the same order.
 *
 * @throws {FleetError} USAGE, STORAGE_FAILED
 */
export function writeFeatures(file: string, table: FeatureTable): void {
  checkFeatureFile(file);
  writeAtomically(file, ENCODERS[path.extname(file)]!(table), () => file);
}

function encodeNpy({ rows }: FeatureTable): Uint8Array[] {
  const shape = `(${rows.length}, ${rows[0]!.length})`;
  const text = `{'descr': '<f4', 'fortran_order': False, 'shape': ${shape}, }`;
  const before = NPY_MAGIC.length + 2;
  const length = Math.ceil((before + text.length + 1) / NPY_ALIGNMENT) * NPY_ALIGNMENT - before;
  const header = Buffer.alloc(2 + length, " ");
  header.writeUInt16LE(length);
  header.write(text, 2, "latin1");
  header.write("\n", header.length - 1, "latin1");
  return [NPY_MAGIC, header, ...rows.map(bytesOf)];
}

function encodeTensors({ images, rows }: FeatureTable): Uint8Array[] {
  const width = rows[0]!.length;
  const data = new Float32Array(rows.length * width);
  for (const [index, row] of rows.entries()) data.set(row, index * width);
  const features = { dtype: "F32", shape: [rows.length, width], data } as const;
  const metadata = { images: JSON.stringify(images) };
  return [encodeSafetensors(new Map([["features", features]]), metadata)];
}

function* encodeJson({ images, rows }: FeatureTable): Generator<Uint8Array> {
  yield Buffer.from("[\n");
  for (const [index, row] of rows.entries()) {
    const line = JSON.stringify({ image: images[index], features: [...row] });
    yield Buffer.from(`${line}${index + 1 < rows.length ? "," : ""}\n`);
  }
  yield Buffer.from("]\n");
}

function bytesOf({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
