/**
 * How far an index has come, told every now and then, and the way to end it early. Both cross from
 * the thread that makes it to the main thread.
 */

import { performance } from "node:perf_hooks";
import { FleetError } from "../../../proto/errors.ts";

/** Progress is told this often. */
const TELL_MS = 200;
/** Calls between two looks at the clock and at the shared word. */
const CALLS = 32;

export interface IndexProgress {
  /** Found so far. */
  readonly images: number;
  /** 0 to 1, of the bytes of tar files or of the folders known so far. */
  readonly share: number;
}

/**
 * To be called for every file that is found.
 *
 * @throws {FleetError} GENERATION_ABORTED when nobody wants the index any more
 */
export type Watch = (images: number, share: number) => void;

/** @param cancelled one shared word; anything but 0 ends the work */
export function openWatch(
  cancelled: Int32Array<SharedArrayBuffer>,
  onProgress: (progress: IndexProgress) => void,
): Watch {
  let calls = 0;
  let toldAt = performance.now();
  return (images, share) => {
    calls += 1;
    if (calls % CALLS !== 0) return;
    if (Atomics.load(cancelled, 0) !== 0) {
      throw new FleetError("GENERATION_ABORTED", "the data set is not wanted any more");
    }
    const now = performance.now();
    if (now - toldAt < TELL_MS) return;
    toldAt = now;
    onProgress({ images, share });
  };
}
