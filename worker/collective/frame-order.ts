/** Whether a frame is the next one: a stream that skips or repeats is not trusted. */

import { type Frame, type FrameHeader, frameError } from "./frame.ts";

/**
 * Bytes of payload in every chunk but the last of its round. Smaller ones spend more time on
 * messages than they save by overlapping.
 */
export const CHUNK_BYTES = 2 * 1024 * 1024;

export interface Expected extends FrameHeader {
  readonly payloadBytes: number;
}

/**
 * @throws {FleetError} GENERATION_ABORTED: REPEATED or REORDERED where the frame is out of place,
 *   MISMATCHED where it is in place but of another operation or size
 */
export function expectFrame(frame: Frame, expected: Expected): void {
  const order =
    frame.sequence - expected.sequence ||
    frame.round - expected.round ||
    frame.chunkIndex - expected.chunkIndex;
  if (order !== 0) {
    throw frameError(
      order < 0 ? "REPEATED" : "REORDERED",
      `got ${placeOf(frame)}, ${placeOf(expected)} is next`,
    );
  }
  const isSame =
    frame.kind === expected.kind &&
    frame.dtype === expected.dtype &&
    frame.totalBytes === expected.totalBytes &&
    frame.chunkCount === expected.chunkCount &&
    frame.payload.byteLength === expected.payloadBytes;
  if (!isSame) {
    const got = describe(frame, frame.payload.byteLength);
    throw frameError(
      "MISMATCHED",
      `got ${got}, expected ${describe(expected, expected.payloadBytes)}`,
    );
  }
}

/** How many chunks `totalBytes` travel in: an empty part is one empty chunk. */
export function chunkCountOf(totalBytes: number): number {
  return Math.max(1, Math.ceil(totalBytes / CHUNK_BYTES));
}

/** The order within a lane on which every operation is one part from each rank. */
export class PartOrder {
  #sequence = 0;
  #chunkIndex = 0;
  #head: FrameHeader | undefined;

  /** @throws {FleetError} GENERATION_ABORTED, as {@link expectFrame} */
  accept(frame: Frame): void {
    const head = this.#head ?? frame;
    const { totalBytes } = head;
    const begin = this.#chunkIndex * CHUNK_BYTES;
    expectFrame(frame, {
      kind: head.kind,
      dtype: head.dtype,
      sequence: this.#sequence,
      round: 0,
      chunkIndex: this.#chunkIndex,
      chunkCount: chunkCountOf(totalBytes),
      totalBytes,
      payloadBytes: Math.min(CHUNK_BYTES, totalBytes - begin),
    });
    this.#head = frame;
    this.#chunkIndex++;
    if (this.#chunkIndex < frame.chunkCount) return;
    this.#head = undefined;
    this.#chunkIndex = 0;
    this.#sequence++;
  }
}

function placeOf(header: FrameHeader): string {
  return `${header.kind} ${header.sequence} round ${header.round} chunk ${header.chunkIndex}`;
}

function describe(header: FrameHeader, payloadBytes: number): string {
  const { kind, dtype, totalBytes, chunkCount } = header;
  const size = `${totalBytes} bytes in ${chunkCount} chunks, ${payloadBytes} bytes here`;
  return `a ${dtype} ${kind} of ${size}`;
}
