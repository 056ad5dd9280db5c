/**
 * The entries of a zip file as `torch.save` writes it: stored, never compressed.
 *
 * Libraries inflate, and read asynchronously or a whole file at once; a tensor is a range of bytes
 * that is read where it lies. Everything that the directory says is checked against the file
 * before anything is read or allocated, so a file cannot ask for more memory than it has bytes.
 */

import { crc32 } from "node:zlib";
import { FleetError } from "../../../proto/errors.ts";
import type { InputFile } from "../input-file.ts";
import {
  CENTRAL_BYTES,
  CENTRAL_SIGNATURE,
  END_BYTES,
  END_SIGNATURE,
  FLAG_ENCRYPTED,
  IN_ZIP64_16,
  IN_ZIP64_32,
  LOCAL_BYTES,
  LOCAL_SIGNATURE,
  STORED,
  ZIP64_END_BYTES,
  ZIP64_END_SIGNATURE,
  ZIP64_EXTRA,
  ZIP64_LOCATOR_BYTES,
  ZIP64_LOCATOR_SIGNATURE,
} from "./zip-format.ts";

export interface ZipEntry {
  readonly name: string;
  /** Where its bytes begin in the file. */
  readonly begin: number;
  readonly bytes: number;
  /** 0 when the writer left it out. */
  readonly crc32: number;
}

/** What the directory says of an entry. */
interface Described extends Omit<ZipEntry, "begin"> {
  readonly header: number;
}

interface Directory {
  readonly begin: number;
  readonly bytes: number;
  readonly entries: number;
}

const COMMENT_BYTES_MAX = 0xffff;
const DIRECTORY_BYTES_MAX = 64 * 1024 * 1024;

/**
 * Lists the entries of a zip file by name.
 *
 * @throws {FleetError} CHECKPOINT_INVALID when it is truncated, or an entry is compressed,
 *   encrypted, doubled, beyond the file or overlaps another
 */
export function readZipEntries(file: InputFile): ReadonlyMap<string, ZipEntry> {
  const directory = findDirectory(file);
  const entries = new Map<string, ZipEntry>();
  for (const described of describeEntries(file, directory)) {
    const { header, ...entry } = described;
    if (entries.has(entry.name)) throw invalid(`it has two entries ${entry.name}`);
    entries.set(entry.name, { ...entry, begin: findBytes(file, described) });
  }
  checkLayout([...entries.values()], directory.begin);
  return entries;
}

/** @throws {FleetError} CHECKPOINT_INVALID when the bytes do not match their CRC-32 */
export function readZipEntry(file: InputFile, entry: ZipEntry): Uint8Array<ArrayBuffer> {
  const bytes = file.read(entry.begin, entry.bytes);
  if (entry.crc32 !== 0 && crc32(bytes) !== entry.crc32) {
    throw invalid(`${entry.name} does not match its CRC-32: the file is damaged`);
  }
  return bytes;
}

function findDirectory(file: InputFile): Directory {
  const tailBytes = Math.min(file.bytes, END_BYTES + COMMENT_BYTES_MAX);
  const tailBegin = file.bytes - tailBytes;
  const tail = Buffer.from(file.read(tailBegin, tailBytes).buffer);
  for (let at = tailBytes - END_BYTES; at >= 0; at--) {
    if (tail.readUInt32LE(at) !== END_SIGNATURE) continue;
    if (at + END_BYTES + tail.readUInt16LE(at + 20) !== tailBytes) continue;
    const end = {
      entries: tail.readUInt16LE(at + 10),
      bytes: tail.readUInt32LE(at + 12),
      begin: tail.readUInt32LE(at + 16),
    };
    const isZip64 =
      end.entries === IN_ZIP64_16 || end.bytes === IN_ZIP64_32 || end.begin === IN_ZIP64_32;
    return checkDirectory(isZip64 ? zip64Directory(file, tailBegin + at) : end, tailBegin + at);
  }
  throw invalid("it ends without a zip directory: the file is truncated");
}

function zip64Directory(file: InputFile, end: number): Directory {
  const locator = Buffer.from(file.read(end - ZIP64_LOCATOR_BYTES, ZIP64_LOCATOR_BYTES).buffer);
  if (locator.readUInt32LE() !== ZIP64_LOCATOR_SIGNATURE) throw invalid("its zip64 end is absent");
  const record = Buffer.from(file.read(size64(locator, 8), ZIP64_END_BYTES).buffer);
  if (record.readUInt32LE() !== ZIP64_END_SIGNATURE) throw invalid("its zip64 end is absent");
  return { entries: size64(record, 32), bytes: size64(record, 40), begin: size64(record, 48) };
}

function checkDirectory(directory: Directory, end: number): Directory {
  const { begin, bytes, entries } = directory;
  if (begin + bytes > end) {
    throw invalid(`its directory of ${bytes} bytes at ${begin} does not fit into ${end}`);
  }
  if (bytes > DIRECTORY_BYTES_MAX || entries * CENTRAL_BYTES > bytes) {
    throw invalid(`its directory of ${bytes} bytes cannot have ${entries} entries`);
  }
  return directory;
}

function* describeEntries(file: InputFile, directory: Directory): Generator<Described> {
  const bytes = Buffer.from(file.read(directory.begin, directory.bytes).buffer);
  let at = 0;
  for (let index = 0; index < directory.entries; index++) {
    if (at + CENTRAL_BYTES > bytes.length || bytes.readUInt32LE(at) !== CENTRAL_SIGNATURE) {
      throw invalid(`entry ${index} of its directory is damaged`);
    }
    const nameEnd = at + CENTRAL_BYTES + bytes.readUInt16LE(at + 28);
    const extraEnd = nameEnd + bytes.readUInt16LE(at + 30);
    const next = extraEnd + bytes.readUInt16LE(at + 32);
    if (next > bytes.length) throw invalid(`entry ${index} of its directory is damaged`);
    const name = bytes.toString("utf8", at + CENTRAL_BYTES, nameEnd);
    yield describeEntry(name, bytes.subarray(at), bytes.subarray(nameEnd, extraEnd));
    at = next;
  }
}

function describeEntry(name: string, record: Buffer, extra: Buffer): Described {
  const shown = JSON.stringify(name);
  if (record.readUInt16LE(8) & FLAG_ENCRYPTED) throw invalid(`its entry ${shown} is encrypted`);
  if (record.readUInt16LE(10) !== STORED) {
    throw invalid(
      `its entry ${shown} is compressed, which torch.save never does: it is a TorchScript ` +
        "program, or another tool has packed it",
    );
  }
  const wide = [record.readUInt32LE(24), record.readUInt32LE(20), record.readUInt32LE(42)];
  // The zip64 field has those numbers, in this order, that do not fit into 32 bits.
  let rest = wide.includes(IN_ZIP64_32) ? zip64Extra(extra, shown) : extra;
  const [bytes, stored, header] = wide.map((value) => {
    if (value !== IN_ZIP64_32) return value;
    if (rest.length < 8) throw invalid(`its entry ${shown} lacks its zip64 sizes`);
    const size = size64(rest, 0);
    rest = rest.subarray(8);
    return size;
  }) as [number, number, number];
  if (bytes !== stored) throw invalid(`its entry ${shown} has ${bytes} bytes, stored as ${stored}`);
  return { name, bytes, crc32: record.readUInt32LE(16), header };
}

function zip64Extra(extra: Buffer, shown: string): Buffer {
  for (let at = 0; at + 4 <= extra.length; ) {
    const length = extra.readUInt16LE(at + 2);
    if (extra.readUInt16LE(at) === ZIP64_EXTRA) return extra.subarray(at + 4, at + 4 + length);
    at += 4 + length;
  }
  throw invalid(`its entry ${shown} lacks its zip64 sizes`);
}

/** Behind the local header, whose extra field may be longer than the directory's. */
function findBytes(file: InputFile, { name, header }: Described): number {
  const record = Buffer.from(file.read(header, LOCAL_BYTES).buffer);
  const nameBytes = record.readUInt16LE(26);
  const isLocal = record.readUInt32LE() === LOCAL_SIGNATURE;
  const local = isLocal ? Buffer.from(file.read(header + LOCAL_BYTES, nameBytes).buffer) : "";
  if (local.toString() !== name) {
    throw invalid(`the header of its entry ${JSON.stringify(name)} is damaged`);
  }
  return header + LOCAL_BYTES + nameBytes + record.readUInt16LE(28);
}

function checkLayout(entries: readonly ZipEntry[], end: number): void {
  let free = 0;
  for (const { name, begin, bytes } of entries.toSorted((a, b) => a.begin - b.begin)) {
    if (begin < free) throw invalid(`its entry ${JSON.stringify(name)} overlaps another`);
    free = begin + bytes;
    if (free > end) {
      throw invalid(`its entry ${JSON.stringify(name)} of ${bytes} bytes at ${begin} is cut off`);
    }
  }
}

/** A size beyond 2^53 becomes one that no file has. */
function size64(bytes: Buffer, at: number): number {
  return Number(bytes.readBigUInt64LE(at));
}

function invalid(reason: string): FleetError {
  return new FleetError("CHECKPOINT_INVALID", reason);
}
