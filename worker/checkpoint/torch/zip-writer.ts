/**
 * A zip file as PyTorch reads it: entries are stored, and begin at multiples of 64 bytes, so that
 * tensors can be mapped into memory.
 */

import { crc32 } from "node:zlib";
import { FleetError } from "../../../proto/errors.ts";
import {
  CENTRAL_BYTES,
  CENTRAL_SIGNATURE,
  END_BYTES,
  END_SIGNATURE,
  FLAG_UTF8,
  IN_ZIP64_32,
  LOCAL_BYTES,
  LOCAL_SIGNATURE,
} from "./zip-format.ts";

const ALIGNMENT = 64;
/** Id of the extra field that PyTorch pads with. */
const PADDING_EXTRA = 0x4246;
const EXTRA_HEAD_BYTES = 4;
/** 1980-01-01, the first day that zip knows: equal contents give equal files. */
const DATE = 0x21;

/**
 * The chunks of a zip file with `entries`, in their order.
 *
 * @throws {FleetError} USAGE when it would be 4 GiB or more, which takes zip64
 */
export function* zipChunks(entries: ReadonlyMap<string, Uint8Array>): Generator<Uint8Array> {
  const directory: Buffer[] = [];
  let at = 0;
  for (const [name, bytes] of entries) {
    const padding = paddingFor(at + LOCAL_BYTES + Buffer.byteLength(name));
    const next = at + LOCAL_BYTES + Buffer.byteLength(name) + padding + bytes.length;
    if (next >= IN_ZIP64_32) {
      throw new FleetError("USAGE", "a .pth of 4 GiB or more is not written: use .safetensors");
    }
    const common = commonFields(name, bytes);
    yield localHeader(name, common, padding);
    yield bytes;
    directory.push(directoryEntry(name, common, at));
    at = next;
  }
  const all = Buffer.concat(directory);
  yield all;
  yield endRecord(directory.length, all.length, at);
}

/** Bytes of an extra field that ends at a multiple of the alignment. */
function paddingFor(nameEnd: number): number {
  const bytes = ALIGNMENT - (nameEnd % ALIGNMENT);
  return bytes < EXTRA_HEAD_BYTES ? bytes + ALIGNMENT : bytes;
}

/** What a local header and the directory say alike: version, flags, time, CRC, sizes, name. */
function commonFields(name: string, bytes: Uint8Array): Buffer {
  const fields = Buffer.alloc(24);
  fields.writeUInt16LE(20, 0);
  fields.writeUInt16LE(FLAG_UTF8, 2);
  fields.writeUInt16LE(DATE, 8);
  fields.writeUInt32LE(crc32(bytes), 10);
  fields.writeUInt32LE(bytes.length, 14);
  fields.writeUInt32LE(bytes.length, 18);
  fields.writeUInt16LE(Buffer.byteLength(name), 22);
  return fields;
}

function localHeader(name: string, common: Buffer, padding: number): Buffer {
  const head = Buffer.alloc(LOCAL_BYTES);
  head.writeUInt32LE(LOCAL_SIGNATURE);
  common.copy(head, 4);
  head.writeUInt16LE(padding, 28);
  const extra = Buffer.alloc(padding, "Z");
  extra.writeUInt16LE(PADDING_EXTRA);
  extra.writeUInt16LE(padding - EXTRA_HEAD_BYTES, 2);
  return Buffer.concat([head, Buffer.from(name), extra]);
}

function directoryEntry(name: string, common: Buffer, header: number): Buffer {
  const entry = Buffer.alloc(CENTRAL_BYTES);
  entry.writeUInt32LE(CENTRAL_SIGNATURE);
  common.copy(entry, 6);
  entry.writeUInt32LE(header, 42);
  return Buffer.concat([entry, Buffer.from(name)]);
}

function endRecord(entries: number, bytes: number, begin: number): Buffer {
  const end = Buffer.alloc(END_BYTES);
  end.writeUInt32LE(END_SIGNATURE);
  end.writeUInt16LE(entries, 8);
  end.writeUInt16LE(entries, 10);
  end.writeUInt32LE(bytes, 12);
  end.writeUInt32LE(begin, 16);
  return end;
}
