/** Files of torch.save, made by hand: what PyTorch writes, and what somebody else might. */

import { readFileSync } from "node:fs";
import path from "node:path";
import { zipChunks } from "../../../../worker/checkpoint/torch/zip-writer.ts";

/** A file that PyTorch wrote; test/fixtures/checkpoint/README.md describes them. */
export function fixture(name: string): string {
  return path.join("test/fixtures/checkpoint", name);
}

/** The bytes of a file with this pickle and these further entries. */
export function savedFile(
  pickle: Uint8Array,
  others: Readonly<Record<string, Uint8Array>> = {},
): Buffer {
  const named = Object.entries(others).map(([name, bytes]) => [`archive/${name}`, bytes] as const);
  return Buffer.concat([...zipChunks(new Map([["archive/data.pkl", pickle], ...named]))]);
}

/** The data.pkl of a file that PyTorch wrote, where it is the first entry. */
export function pickleIn(name: string): Buffer {
  const bytes = readFileSync(fixture(name));
  const begin = 30 + bytes.readUInt16LE(26) + bytes.readUInt16LE(28);
  const end = bytes.indexOf(Buffer.from("PK\x07\x08", "latin1"), begin);
  return Buffer.from(bytes.subarray(begin, end));
}

/** A pickle of opcodes and texts one after the other: numbers are bytes, texts are Latin-1. */
export function pickleOf(...parts: readonly (number | string)[]): Buffer {
  return Buffer.concat(
    parts.map((part) => (typeof part === "string" ? Buffer.from(part, "latin1") : Buffer.of(part))),
  );
}

/** A BINUNICODE opcode with its text. */
export function text(value: string): string {
  const head = Buffer.alloc(4);
  head.writeUInt32LE(value.length);
  return `X${head.toString("latin1")}${value}`;
}
