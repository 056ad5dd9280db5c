/**
 * One frame: the unit in which workers talk to one another.
 *
 * A stream's end says nothing about whether its content was whole, so every frame says for itself
 * whose it is, where in which operation it belongs, how long it is and what its checksum is.
 *
 * Little-endian, 64 bytes, then the payload, unless a flag says that it lies in the memory that the
 * sender shares with the receiver: then an XXH3-64 of each of its blocks follows.
 *
 *      0  magic          u32         24  sequence      u32    operation within its lane
 *      4  version        u8          28  source rank   u16
 *      5  kind           u8          30  round         u16    of the ring; 0 elsewhere
 *      6  dtype          u8          32  chunk index   u32
 *      7  flags          u8          36  chunk count   u32    of the round
 *      8  experiment     8 bytes     40  total bytes   u64    of the operation
 *     16  generation     u64         48  payload bytes u32
 *                                    52  place         u32    of the payload in shared memory
 *                                    56  XXH3          8 bytes
 *
 * The last is XXH3-64 of bytes 0 - 55 and of the XXH3-64 of what follows the header.
 */

import { createHash } from "node:crypto";
import xxhash from "xxhash-addon";
import { FleetError } from "../../proto/errors.ts";

export const HEADER_BYTES = 64;
const MAGIC = 0x52_46_43_53; // "SCFR"
const VERSION = 2;
const FLAG_FINAL = 1;
const FLAG_SHARED = 2;
const PLACE_AT = 52;
const HASH_AT = 56;
const DIGEST_BYTES = 8;

/**
 * `hello` opens a stream; `alive` is sent twice a second and says how far the sender has come in
 * the ring; `start-*` announces a ring operation to everyone; `goodbye` says that nothing follows,
 * and `seen` that a goodbye and all before it has arrived; `memory` says that the peer's shared
 * memory is open, and `taken` how many payloads have been read from it; `share`, `summed` and
 * `copied` are host-lane.ts's; `abort` ends the generation. The others carry an operation's data.
 * The place in the list is the code on the wire.
 */
const KINDS = [
  "hello",
  "alive",
  "start-reduce",
  "start-broadcast",
  "goodbye",
  "seen",
  "memory",
  "taken",
  "abort",
  "gather",
  "sum",
  "barrier",
  "reduce",
  "broadcast",
  "start-scatter",
  "scatter",
  "share",
  "summed",
  "copied",
] as const;
const DTYPES = ["f32", "bf16", "json", "none"] as const;

export type FrameKind = (typeof KINDS)[number];
type FrameDtype = (typeof DTYPES)[number];

/** What is wrong with a frame; in `detail.fault` of the error. */
export type FrameFault =
  /** Shorter or longer than its header says. */
  | "TRUNCATED"
  /** Not a frame of this protocol. */
  | "MALFORMED"
  /** The checksum does not match. */
  | "CORRUPT"
  /** Of another experiment, generation or sender than the stream's. */
  | "FOREIGN"
  /** Came before. */
  | "REPEATED"
  /** Something before it is missing. */
  | "REORDERED"
  /** In its place, but not what this rank's own operation calls for: the ranks have diverged. */
  | "MISMATCHED";

/** What all frames of one stream have in common. */
export interface FrameScope {
  readonly experimentHash: Uint8Array;
  readonly generation: number;
  /** Rank that sends. */
  readonly source: number;
}

export interface FrameHeader {
  readonly kind: FrameKind;
  readonly dtype: FrameDtype;
  readonly sequence: number;
  readonly round: number;
  readonly chunkIndex: number;
  readonly chunkCount: number;
  readonly totalBytes: number;
}

export interface Frame extends FrameHeader {
  /** Unaligned view of the received message, or of shared memory. */
  readonly payload: Uint8Array;
  /** Of the blocks of a payload in shared memory, which are still to be checked. */
  readonly digests: Uint8Array | undefined;
}

const NO_PAYLOAD = new Uint8Array(0);

/** First 8 bytes of the id's SHA-256. */
export function hashExperiment(experimentId: string): Uint8Array {
  return createHash("sha256").update(experimentId).digest().subarray(0, 8);
}

/** @throws always: a GENERATION_ABORTED whose detail carries the fault */
export function frameError(fault: FrameFault, message: string): FleetError {
  return new FleetError("GENERATION_ABORTED", `${fault} frame: ${message}`, { fault });
}

/**
 * Writes all but the payload, from byte 64, and the checksum: fill the one in, then seal it.
 *
 * @param frame of 64 bytes more than the payload
 */
export function openFrame(frame: Buffer, scope: FrameScope, header: FrameHeader): void {
  writeHeader(frame, scope, header, frame.length - HEADER_BYTES);
}

/** Writes the checksum. The frame must not change afterwards. */
export function sealFrame(frame: Buffer): Buffer {
  frame.set(hashOf(frame, frame.subarray(HEADER_BYTES)), HASH_AT);
  return frame;
}

/** Payloads in shared memory are hashed in blocks of so many bytes, the last one shorter. */
export const BLOCK_BYTES = 64 * 1024;

/** Where a payload lies in the memory shared with the receiver. */
export interface SharedPayload {
  readonly place: number;
  readonly bytes: number;
  /** One {@link digestOf} for each block. */
  readonly digests: readonly Uint8Array[];
}

export function encodeShared(
  scope: FrameScope,
  header: FrameHeader,
  { place, bytes, digests }: SharedPayload,
): Buffer {
  const frame = Buffer.allocUnsafe(HEADER_BYTES + DIGEST_BYTES * digests.length);
  writeHeader(frame, scope, header, bytes);
  frame[7] = frame[7]! | FLAG_SHARED;
  frame.writeUInt32LE(place, PLACE_AT);
  for (const [i, digest] of digests.entries()) frame.set(digest, HEADER_BYTES + DIGEST_BYTES * i);
  return sealFrame(frame);
}

/** XXH3-64 of a block. */
export function digestOf({ buffer, byteOffset, byteLength }: Uint8Array): Uint8Array {
  return xxhash.XXHash3.hash(Buffer.from(buffer, byteOffset, byteLength));
}

/** @throws {FleetError} GENERATION_ABORTED, CORRUPT, when a block of the payload has changed */
export function checkBlock({ digests }: Frame, index: number, block: Uint8Array): void {
  const expected = digests?.subarray(DIGEST_BYTES * index, DIGEST_BYTES * (index + 1));
  if (expected !== undefined && Buffer.compare(expected, digestOf(block)) === 0) return;
  throw frameError("CORRUPT", `block ${index} of its payload in shared memory has changed`);
}

function writeHeader(
  frame: Buffer,
  scope: FrameScope,
  header: FrameHeader,
  payloadBytes: number,
): void {
  frame.writeUInt32LE(MAGIC, 0);
  frame[4] = VERSION;
  frame[5] = KINDS.indexOf(header.kind) + 1;
  frame[6] = DTYPES.indexOf(header.dtype) + 1;
  frame[7] = finalFlag(header);
  frame.set(scope.experimentHash, 8);
  writeUint53(frame, scope.generation, 16);
  frame.writeUInt32LE(header.sequence, 24);
  frame.writeUInt16LE(scope.source, 28);
  frame.writeUInt16LE(header.round, 30);
  frame.writeUInt32LE(header.chunkIndex, 32);
  frame.writeUInt32LE(header.chunkCount, 36);
  writeUint53(frame, header.totalBytes, 40);
  frame.writeUInt32LE(payloadBytes, 48);
  frame.writeUInt32LE(0, PLACE_AT);
}

export function encodeFrame(
  scope: FrameScope,
  header: FrameHeader,
  payload: Uint8Array = NO_PAYLOAD,
): Buffer {
  const frame = Buffer.allocUnsafe(HEADER_BYTES + payload.byteLength);
  openFrame(frame, scope, header);
  frame.set(payload, HEADER_BYTES);
  return sealFrame(frame);
}

/** A frame that carries no data of an operation. */
export function encodeNotice(
  scope: FrameScope,
  kind: FrameKind,
  body: { readonly sequence?: number; readonly totalBytes?: number; readonly json?: unknown } = {},
): Buffer {
  const payload = body.json === undefined ? NO_PAYLOAD : Buffer.from(JSON.stringify(body.json));
  const header: FrameHeader = {
    kind,
    dtype: body.json === undefined ? "none" : "json",
    sequence: body.sequence ?? 0,
    round: 0,
    chunkIndex: 0,
    chunkCount: 1,
    totalBytes: body.totalBytes ?? payload.byteLength,
  };
  return encodeFrame(scope, header, payload);
}

/**
 * The frames of one gRPC message. Those whose payloads are in shared memory travel together.
 * Whether what is found is a frame at all is for {@link decodeFrame} to tell.
 */
export function framesIn(message: Buffer): readonly Buffer[] {
  const frames: Buffer[] = [];
  let begin = 0;
  while (message.length - begin > HEADER_BYTES && (message[begin + 7]! & FLAG_SHARED) !== 0) {
    const bytes = HEADER_BYTES + digestsBytes(message.readUInt32LE(begin + 48));
    frames.push(message.subarray(begin, begin + bytes));
    begin += bytes;
  }
  if (begin === 0 || begin < message.length) frames.push(message.subarray(begin));
  return frames;
}

/**
 * Reads one frame of the stream that `scope` describes. The payload is a view of `bytes`, or of
 * `shared`, the memory that the sender shares.
 *
 * @throws {FleetError} GENERATION_ABORTED with a {@link FrameFault}
 */
export function decodeFrame(
  bytes: Uint8Array,
  scope: FrameScope,
  shared: Uint8Array = NO_PAYLOAD,
): Frame {
  const frame = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (frame.length < HEADER_BYTES) {
    throw frameError("TRUNCATED", `${frame.length} bytes, its header alone has ${HEADER_BYTES}`);
  }
  if (frame.readUInt32LE(0) !== MAGIC) throw frameError("MALFORMED", "does not begin with SCFR");
  if (frame[4] !== VERSION) throw frameError("MALFORMED", `frame version ${frame[4]}`);
  const isShared = (frame[7]! & FLAG_SHARED) !== 0;
  const inline = inlinePart(frame, isShared);
  if (!hashOf(frame, inline).equals(frame.subarray(HASH_AT, HEADER_BYTES))) {
    throw frameError("CORRUPT", `its checksum over ${frame.length} bytes is wrong`);
  }
  checkScope(frame, scope);
  const kind = KINDS[(frame[5] ?? 0) - 1];
  const dtype = DTYPES[(frame[6] ?? 0) - 1];
  if (kind === undefined || dtype === undefined) {
    throw frameError("MALFORMED", `unknown kind ${frame[5]} or dtype ${frame[6]}`);
  }
  const chunkIndex = frame.readUInt32LE(32);
  const chunkCount = frame.readUInt32LE(36);
  const flags = frame[7]! & ~FLAG_SHARED;
  if (chunkIndex >= chunkCount || flags !== finalFlag({ chunkIndex, chunkCount })) {
    throw frameError("MALFORMED", `chunk ${chunkIndex} of ${chunkCount} with flags ${frame[7]}`);
  }
  return {
    kind,
    dtype,
    sequence: frame.readUInt32LE(24),
    round: frame.readUInt16LE(30),
    chunkIndex,
    chunkCount,
    totalBytes: readUint53(frame, 40),
    payload: isShared ? sharedPayload(frame, shared) : inline,
    digests: isShared ? inline : undefined,
  };
}

/**
 * What {@link encodeNotice} was given, as far as the sender can be trusted.
 *
 * @throws {FleetError} GENERATION_ABORTED, MALFORMED
 */
export function readJson<Body>(frame: Frame): Partial<Body> {
  try {
    return JSON.parse(Buffer.from(frame.payload).toString());
  } catch (cause) {
    throw frameError("MALFORMED", `${frame.kind} without JSON: ${cause}`);
  }
}

/** The payload, or what stands for it. */
function inlinePart(frame: Buffer, isShared: boolean): Uint8Array {
  const inline = frame.subarray(HEADER_BYTES);
  const payloadBytes = frame.readUInt32LE(48);
  const expected = isShared ? digestsBytes(payloadBytes) : payloadBytes;
  if (inline.length === expected) return inline;
  throw frameError("TRUNCATED", `${inline.length} bytes after its header, which says ${expected}`);
}

function digestsBytes(payloadBytes: number): number {
  return DIGEST_BYTES * Math.ceil(payloadBytes / BLOCK_BYTES);
}

function sharedPayload(frame: Buffer, shared: Uint8Array): Uint8Array {
  const begin = frame.readUInt32LE(PLACE_AT);
  const end = begin + frame.readUInt32LE(48);
  if (end <= shared.length) return shared.subarray(begin, end);
  const text = `its payload ends at ${end} of ${shared.length} bytes of shared memory`;
  throw frameError("MALFORMED", text);
}

function checkScope(frame: Buffer, scope: FrameScope): void {
  const generation = readUint53(frame, 16);
  if (generation !== scope.generation) {
    throw frameError("FOREIGN", `of generation ${generation}, this is ${scope.generation}`);
  }
  if (!scope.experimentHash.every((byte, i) => frame[8 + i] === byte)) {
    throw frameError("FOREIGN", "of another experiment");
  }
  const source = frame.readUInt16LE(28);
  if (source !== scope.source) {
    throw frameError("FOREIGN", `of rank ${source} on the stream of rank ${scope.source}`);
  }
}

function finalFlag({ chunkIndex, chunkCount }: Pick<FrameHeader, "chunkIndex" | "chunkCount">) {
  return chunkIndex === chunkCount - 1 ? FLAG_FINAL : 0;
}

const hashed = Buffer.alloc(HEADER_BYTES);

/** What belongs at the end of the header, whatever is there now. */
function hashOf(frame: Buffer, inline: Uint8Array): Buffer {
  hashed.set(frame.subarray(0, HASH_AT));
  hashed.set(digestOf(inline), HASH_AT);
  return xxhash.XXHash3.hash(hashed);
}

function writeUint53(frame: Buffer, value: number, at: number): void {
  frame.writeUInt32LE(value % 2 ** 32, at);
  frame.writeUInt32LE(Math.floor(value / 2 ** 32), at + 4);
}

function readUint53(frame: Buffer, at: number): number {
  return frame.readUInt32LE(at) + frame.readUInt32LE(at + 4) * 2 ** 32;
}
