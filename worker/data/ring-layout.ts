/**
 * Layout of the memory that loader threads and the engine thread share.
 *
 * One control block, and a ring of slots that each hold a batch. The batch of step s lies in slot
 * (s - startStep) mod {@link RING_DEPTH}. Loaders may write it once the reader has released the
 * batch that lay there before; it is complete when `DONE + slot` has reached its number of images.
 *
 * ```
 * control   int32   STATUS RELEASED SKIPPED ERROR_LENGTH DONE[RING_DEPTH]
 *           int64   NEXT_TASK
 *           bytes   error, as JSON
 *           int32   one bit per image of the data set: known to be unreadable
 * slot      int32   label[batch]  index[batch]
 *           bytes   pixels[batch * views, 3, size, size]
 * ```
 */

import assert from "node:assert/strict";
import type { PlainError } from "../../proto/errors.ts";

/** Batches in memory at a time: one in use, one complete, one being filled. */
export const RING_DEPTH = 3;

/** Words of the control block. */
export const STATUS = 0;
/** Batches that the reader has given back. */
export const RELEASED = 1;
/** Different images that could not be read. */
export const SKIPPED = 2;
const ERROR_LENGTH = 3;
/** One word per slot: images of its batch that are in place. */
export const DONE = 4;
const NEXT_TASK_BYTE = 32;
const ERROR_BYTE = 40;
const ERROR_BYTES_MAX = 4096;
const UNREADABLE_BYTE = ERROR_BYTE + ERROR_BYTES_MAX;

assert.ok((DONE + RING_DEPTH) * 4 <= NEXT_TASK_BYTE);
assert.equal(NEXT_TASK_BYTE % 8, 0);
assert.equal(UNREADABLE_BYTE % 4, 0);

/** Values of the STATUS word. All but RUNNING are final. */
export const RUNNING = 0;
/** Somebody is writing the error; it will be FAILED in a moment. */
const FAILING = 1;
export const FAILED = 2;
export const CLOSED = 3;

/** Row label of a validation image that could not be read. */
export const NO_IMAGE = -2;

/** Structured-cloneable. */
export interface SharedRing {
  readonly control: SharedArrayBuffer;
  readonly slots: readonly SharedArrayBuffer[];
}

export interface Control {
  readonly words: Int32Array<SharedArrayBuffer>;
  readonly nextTask: BigInt64Array<SharedArrayBuffer>;
  readonly error: Uint8Array<SharedArrayBuffer>;
  readonly unreadable: Int32Array<SharedArrayBuffer>;
}

export interface Slot {
  readonly labels: Int32Array<SharedArrayBuffer>;
  readonly indices: Int32Array<SharedArrayBuffer>;
  readonly pixels: Uint8Array<SharedArrayBuffer>;
}

/**
 * @param options.images in the data set
 * @param options.batch images in a batch
 * @param options.imageBytes of all views of one image
 */
export function allocateRing(options: {
  readonly images: number;
  readonly batch: number;
  readonly imageBytes: number;
  readonly firstTask: number;
}): SharedRing {
  const { images, batch, imageBytes, firstTask } = options;
  const unreadableBytes = Math.ceil(images / 32) * 4;
  const control = new SharedArrayBuffer(UNREADABLE_BYTE + unreadableBytes);
  viewControl(control).nextTask[0] = BigInt(firstTask);
  const slotBytes = batch * (8 + imageBytes);
  const slots = Array.from({ length: RING_DEPTH }, () => new SharedArrayBuffer(slotBytes));
  return { control, slots };
}

export function viewControl(control: SharedArrayBuffer): Control {
  return {
    words: new Int32Array(control, 0, DONE + RING_DEPTH),
    nextTask: new BigInt64Array(control, NEXT_TASK_BYTE, 1),
    error: new Uint8Array(control, ERROR_BYTE, ERROR_BYTES_MAX),
    unreadable: new Int32Array(control, UNREADABLE_BYTE),
  };
}

export function viewSlot(slot: SharedArrayBuffer, batch: number): Slot {
  return {
    labels: new Int32Array(slot, 0, batch),
    indices: new Int32Array(slot, batch * 4, batch),
    pixels: new Uint8Array(slot, batch * 8),
  };
}

/** Ends the load with an error, unless it has ended already. Wakes everybody who waits. */
export function failRing(control: Control, error: PlainError): void {
  const { words } = control;
  if (Atomics.compareExchange(words, STATUS, RUNNING, FAILING) !== RUNNING) return;
  let message = error.message;
  let bytes = Buffer.from(JSON.stringify(error));
  while (bytes.length > ERROR_BYTES_MAX) {
    message = message.slice(0, message.length / 2);
    bytes = Buffer.from(JSON.stringify({ code: error.code, message, detail: {} }));
  }
  control.error.set(bytes);
  Atomics.store(words, ERROR_LENGTH, bytes.length);
  Atomics.store(words, STATUS, FAILED);
  wakeAll(words);
}

/** Ends the load, unless it has ended already. Wakes everybody who waits. */
export function closeRing({ words }: Control): void {
  Atomics.compareExchange(words, STATUS, RUNNING, CLOSED);
  wakeAll(words);
}

/** The error of a load that is FAILED. */
export function errorOf({ words, error }: Control): PlainError {
  assert.equal(Atomics.load(words, STATUS), FAILED);
  const bytes = error.slice(0, Atomics.load(words, ERROR_LENGTH));
  return JSON.parse(Buffer.from(bytes).toString("utf8")) as PlainError;
}

function wakeAll(words: Int32Array<SharedArrayBuffer>): void {
  Atomics.notify(words, RELEASED);
  for (let slot = 0; slot < RING_DEPTH; slot++) Atomics.notify(words, DONE + slot);
}
