/**
 * The safetensors format: 8 bytes of header length (little-endian), a JSON header, then the
 * tensors' bytes. Pure: reads and writes byte arrays. The checks are those of the format's own
 * library; a file with holes, overlaps or bytes left over is refused.
 */

import assert from "node:assert/strict";
import { FleetError } from "../../proto/errors.ts";
import { elementCount } from "../../proto/model/model-plan.ts";
import { type Dtype, ELEMENT_TYPES, isDtype, type TensorArray } from "./element-types.ts";

export interface SafetensorsTensor {
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** Row-major. F16 and BF16 come widened to float32. */
  readonly data: TensorArray;
}

export interface SafetensorsFile {
  /** In the order of the header. */
  readonly tensors: ReadonlyMap<string, SafetensorsTensor>;
  readonly metadata: Readonly<Record<string, string>>;
}

const LENGTH_BYTES = 8;
/** The format's own limit. */
const HEADER_BYTES_MAX = 100_000_000;
const METADATA = "__metadata__";

interface Entry {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

/**
 * Reads a whole file; the tensors are copies.
 *
 * @throws {FleetError} CHECKPOINT_INVALID saying what is wrong with it
 */
export function decodeSafetensors(bytes: Uint8Array): SafetensorsFile {
  const { header, body } = splitHeader(bytes);
  const { [METADATA]: metadata, ...described } = header;
  const entries = Object.entries(described).map(([name, value]) => parseEntry(name, value));
  checkLayout(entries, body.length);

  const tensors = new Map<string, SafetensorsTensor>();
  for (const { name, dtype, shape, begin, end } of entries) {
    const copy = new Uint8Array(end - begin);
    copy.set(body.subarray(begin, end));
    tensors.set(name, { dtype, shape, data: ELEMENT_TYPES[dtype].decode(copy.buffer) });
  }
  return { tensors, metadata: parseMetadata(metadata) };
}

/** Writes a whole file; see {@link safetensorsChunks}. */
export function encodeSafetensors(
  tensors: ReadonlyMap<string, SafetensorsTensor>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  return Buffer.concat(safetensorsChunks(tensors, metadata));
}

/**
 * The parts of a file, one after the other; tensors are not copied. Wide types go first, so that
 * every tensor is aligned; the header keeps the map's order. F16 and BF16 can be read but not
 * written.
 */
export function safetensorsChunks(
  tensors: ReadonlyMap<string, SafetensorsTensor>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array[] {
  const byWidth = [...tensors].sort(
    ([, a], [, b]) => ELEMENT_TYPES[b.dtype].bytes - ELEMENT_TYPES[a.dtype].bytes,
  );
  const offsets = new Map<string, readonly [number, number]>();
  let size = 0;
  for (const [name, { data, dtype, shape }] of byWidth) {
    const expected = ELEMENT_TYPES[dtype].bytes * elementCount(shape);
    assert.equal(data.byteLength, expected, `${name} is ${dtype} [${shape}]`);
    offsets.set(name, [size, size + expected]);
    size += expected;
  }

  const entries = [...tensors].map(([name, { dtype, shape }]) => [
    name,
    { dtype, shape, data_offsets: offsets.get(name) },
  ]);
  const all = Object.keys(metadata).length > 0 ? [[METADATA, metadata], ...entries] : entries;
  const json = Buffer.from(JSON.stringify(Object.fromEntries(all)));
  const headerBytes = Math.ceil(json.length / LENGTH_BYTES) * LENGTH_BYTES;

  const header = Buffer.alloc(LENGTH_BYTES + headerBytes, " ");
  header.writeBigUInt64LE(BigInt(headerBytes));
  json.copy(header, LENGTH_BYTES);
  const bodies = byWidth.map(
    ([, { data }]) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
  );
  return [header, ...bodies];
}

function splitHeader(bytes: Uint8Array): {
  readonly header: Readonly<Record<string, unknown>>;
  readonly body: Uint8Array;
} {
  if (bytes.length < LENGTH_BYTES) throw invalid(`${bytes.length} bytes are no file`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const headerBytes = Number(view.getBigUint64(0, true));
  const bodyBegin = LENGTH_BYTES + headerBytes;
  if (headerBytes > HEADER_BYTES_MAX || bodyBegin > bytes.length) {
    throw invalid(`a header of ${headerBytes} bytes does not fit into ${bytes.length}`);
  }
  const text = new TextDecoder().decode(bytes.subarray(LENGTH_BYTES, bodyBegin));
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch (thrown) {
    throw invalid("the header is not JSON", thrown);
  }
  if (!isRecord(header)) throw invalid("the header is not a JSON object");
  return { header, body: bytes.subarray(bodyBegin) };
}

function parseEntry(name: string, value: unknown): Entry {
  if (!isRecord(value)) throw invalid(`${name} has no description`);
  const { dtype, shape, data_offsets: offsets } = value;
  if (!isDtype(dtype)) throw invalid(`${name} has the unknown type ${JSON.stringify(dtype)}`);
  if (!isSizes(shape)) throw invalid(`${name} has no valid shape`);
  if (!isSizes(offsets) || offsets.length !== 2) throw invalid(`${name} has no valid offsets`);
  const [begin, end] = offsets as [number, number];
  const expected = elementCount(shape) * ELEMENT_TYPES[dtype].bytes;
  if (end - begin !== expected) {
    throw invalid(`${name}: ${dtype} [${shape.join(", ")}] is not ${end - begin} bytes`);
  }
  return { name, dtype, shape, begin, end };
}

/** The tensors follow one another without a gap and fill the file. */
function checkLayout(entries: readonly Entry[], bodyBytes: number): void {
  let at = 0;
  for (const { name, begin, end } of entries.toSorted(
    (a, b) => a.begin - b.begin || a.end - b.end,
  )) {
    if (begin !== at) throw invalid(`${name} begins at byte ${begin} instead of ${at}`);
    at = end;
  }
  if (at !== bodyBytes)
    throw invalid(`it has ${bodyBytes} bytes of tensors, its header says ${at}`);
}

function parseMetadata(value: unknown): Readonly<Record<string, string>> {
  if (value === undefined) return {};
  if (!isRecord(value)) throw invalid("its metadata are not an object");
  const entries = Object.entries(value).map(([key, text]): [string, string] => {
    if (typeof text !== "string") throw invalid(`its metadata ${key} are not text`);
    return [key, text];
  });
  return Object.fromEntries(entries);
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isSizes(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}

function invalid(reason: string, cause?: unknown): FleetError {
  return new FleetError("CHECKPOINT_INVALID", `not a valid safetensors file: ${reason}`, {}, cause);
}
