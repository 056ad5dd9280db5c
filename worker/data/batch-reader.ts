/** The engine thread's side of data loading: waits for batches, in order, and gives them back. */

import assert from "node:assert/strict";
import { FleetError } from "../../proto/errors.ts";
import { imagesAt } from "./load-plan.ts";
import type { SharedBatches } from "./loaders.ts";
import {
  CLOSED,
  type Control,
  DONE,
  errorOf,
  FAILED,
  NO_IMAGE,
  RELEASED,
  RING_DEPTH,
  type Slot,
  STATUS,
  viewControl,
  viewSlot,
} from "./ring-layout.ts";

/** Longest wait before the status is looked at again, should a wake-up get lost. */
const WAIT_MS = 1000;

/** The arrays are views of shared memory: valid until `done()`, and not to be written to. */
export interface Batch {
  /** [count * views, 3, size, size], RGB; the views of image k are rows k * views and following. */
  readonly pixels: Uint8Array<SharedArrayBuffer>;
  /** [count]; -1 for an image without label. */
  readonly labels: Int32Array<SharedArrayBuffer>;
  /** [count]; numbers of the images in the data set. */
  readonly indices: Int32Array<SharedArrayBuffer>;
  /** Images. Unreadable validation images are left out, so that there it may even be 0. */
  readonly count: number;
  /** Rows per image. */
  readonly views: 1 | 2;
  /** Counted from the beginning of the stage. */
  readonly step: number;
  /** Epoch of the step, or pass of a validation. */
  readonly epoch: number;
  /** True for the last batch of its epoch or pass. */
  readonly isLastOfEpoch: boolean;
}

export interface BatchReader {
  /**
   * Blocks until the next batch is there; undefined at the end of the plan.
   *
   * @throws {FleetError} DATA_INVALID when too many images are unreadable, GENERATION_ABORTED when
   *   the loaders were closed, UNEXPECTED when a loader broke
   */
  next(): Batch | undefined;
  /** Gives the batch back, so that its memory can be filled again. */
  done(): void;
}

/** Opens the batches of loaders that the main thread has started. One reader only. */
export function openBatches({ ring, schedule, imageSize }: SharedBatches): BatchReader {
  const control = viewControl(ring.control);
  const slots = ring.slots.map((slot) => viewSlot(slot, schedule.batch));
  const { views, startStep, stepsPerEpoch } = schedule;
  const imageBytes = views * 3 * imageSize ** 2;
  let step = startStep;
  let isHeld = false;

  return {
    next() {
      assert.ok(!isHeld, "the previous batch was not given back");
      if (step >= schedule.endStep) return undefined;
      const slotNumber = (step - startStep) % RING_DEPTH;
      const rows = imagesAt(schedule, step);
      waitUntilDone(control, slotNumber, rows);
      isHeld = true;
      const slot = slots[slotNumber]!;
      const count = compact(slot, rows, imageBytes);
      return {
        pixels: slot.pixels.subarray(0, count * imageBytes),
        labels: slot.labels.subarray(0, count),
        indices: slot.indices.subarray(0, count),
        count,
        views,
        step,
        epoch: Math.floor(step / stepsPerEpoch),
        isLastOfEpoch: (step + 1) % stepsPerEpoch === 0,
      };
    },
    done() {
      assert.ok(isHeld, "there is no batch to give back");
      isHeld = false;
      const slotNumber = (step - startStep) % RING_DEPTH;
      Atomics.store(control.words, DONE + slotNumber, 0);
      Atomics.add(control.words, RELEASED, 1);
      Atomics.notify(control.words, RELEASED);
      step++;
    },
  };
}

function waitUntilDone(control: Control, slotNumber: number, rows: number): void {
  const { words } = control;
  for (;;) {
    const status = Atomics.load(words, STATUS);
    if (status === FAILED) throw FleetError.fromPlain(errorOf(control));
    if (status === CLOSED) {
      throw new FleetError("GENERATION_ABORTED", "data loading was closed before its end");
    }
    const done = Atomics.load(words, DONE + slotNumber);
    if (done === rows) return;
    Atomics.wait(words, DONE + slotNumber, done, WAIT_MS);
  }
}

/** Closes the gaps that unreadable images leave. @returns how many images there are */
function compact({ labels, indices, pixels }: Slot, rows: number, imageBytes: number): number {
  let count = 0;
  for (let row = 0; row < rows; row++) {
    if (labels[row] === NO_IMAGE) continue;
    if (count < row) {
      labels[count] = labels[row]!;
      indices[count] = indices[row]!;
      pixels.copyWithin(count * imageBytes, row * imageBytes, (row + 1) * imageBytes);
    }
    count++;
  }
  return count;
}
