/**
 * The work of a loader thread: takes images off the plan, one by one, and puts their views into the
 * ring.
 *
 * Which loader takes which image is left to chance; what becomes of it is not. An unreadable image
 * is replaced by the next readable one of the data set, which depends on the data alone.
 */

/// <reference lib="es2024.sharedmemory" />

import { FleetError } from "../../proto/errors.ts";
import type { RgbImage } from "./augment/rgb-image.ts";
import { createImage } from "./augment/rgb-image.ts";
import { augmentView, linearTrainView, validationView } from "./augment/view.ts";
import { type Dataset, imageName } from "./dataset.ts";
import { decodeImage } from "./decode.ts";
import { cachedImage, cacheImage, type DecodeCache } from "./decode-cache.ts";
import { EntryReader } from "./entry-reader.ts";
import {
  imagesAt,
  indicesOf,
  type LoadPlan,
  type Schedule,
  scheduleOf,
  type Task,
  taskAt,
} from "./load-plan.ts";
import { RandomStream } from "./random-stream.ts";
import {
  type Control,
  DONE,
  failRing,
  NO_IMAGE,
  RELEASED,
  RING_DEPTH,
  RUNNING,
  type SharedRing,
  SKIPPED,
  type Slot,
  STATUS,
  viewControl,
  viewSlot,
} from "./ring-layout.ts";

/** Images that a thread has in flight: while some are decoded, one is augmented. */
const LANES = 4;
/** A lost wake-up would cost this much time; none is known to be possible. */
const WAIT_MS = 1000;
/** Number of the linear stage's view in the random streams; pre-training has views 0 and 1. */
const LINEAR_VIEW = 2;

/** An image that cannot be read. */
export interface Skip {
  /** Full name of the file. */
  readonly path: string;
  /** Completes the sentence "FILE ...". */
  readonly reason: string;
  /** Different images that this worker could not read so far, this one included. */
  readonly total: number;
}

/** Structured-cloneable. */
export interface LoaderInput {
  readonly dataset: Dataset;
  readonly plan: LoadPlan;
  readonly ring: SharedRing;
  readonly cache: DecodeCache | undefined;
}

/**
 * Works until the plan is done or the ring has ended. Failures end the ring; they are not thrown.
 *
 * @param onSkipped is called once per unreadable image
 */
export async function runLoader(
  input: LoaderInput,
  onSkipped: (skip: Skip) => void,
): Promise<void> {
  const loader = new Loader(input, onSkipped);
  try {
    await Promise.all(Array.from({ length: LANES }, () => loader.work()));
  } finally {
    loader.close();
  }
}

class Loader {
  readonly #dataset: Dataset;
  readonly #plan: LoadPlan;
  readonly #schedule: Schedule;
  readonly #control: Control;
  readonly #slots: readonly Slot[];
  readonly #reader: EntryReader;
  readonly #cache: DecodeCache | undefined;
  readonly #onSkipped: (skip: Skip) => void;
  /** Where the views of an image are made, before they are taken apart into channels. */
  readonly #view: RgbImage;
  #order: { readonly epoch: number; readonly indices: Int32Array } | undefined;

  constructor({ dataset, plan, ring, cache }: LoaderInput, onSkipped: (skip: Skip) => void) {
    this.#dataset = dataset;
    this.#plan = plan;
    this.#schedule = scheduleOf(plan, dataset.count);
    this.#control = viewControl(ring.control);
    this.#slots = ring.slots.map((slot) => viewSlot(slot, plan.batchPerWorker));
    this.#reader = new EntryReader(dataset);
    this.#cache = cache;
    this.#onSkipped = onSkipped;
    this.#view = createImage(plan.imageSize, plan.imageSize);
  }

  close(): void {
    this.#reader.close();
  }

  async work(): Promise<void> {
    try {
      for (;;) {
        const task = this.#take();
        if (task === undefined) return;
        const index = this.#indexOf(task);
        if (!(await this.#waitForSlot(task.step))) return;
        await this.#load(task, index);
      }
    } catch (thrown) {
      failRing(this.#control, FleetError.from(thrown).toPlain());
    }
  }

  #take(): Task | undefined {
    return taskAt(this.#schedule, Number(Atomics.add(this.#control.nextTask, 0, 1n)));
  }

  /** Resolves to false when the ring has ended. Must not block: other images are in flight. */
  async #waitForSlot(step: number): Promise<boolean> {
    const { words } = this.#control;
    const needed = step - this.#schedule.startStep - RING_DEPTH + 1;
    for (;;) {
      if (Atomics.load(words, STATUS) !== RUNNING) return false;
      const released = Atomics.load(words, RELEASED);
      if (released >= needed) return true;
      await Atomics.waitAsync(words, RELEASED, released, WAIT_MS).value;
    }
  }

  async #load(task: Task, index: number): Promise<void> {
    const found = await this.#decodeFrom(index);
    const slotNumber = (task.step - this.#schedule.startStep) % RING_DEPTH;
    const slot = this.#slots[slotNumber]!;
    if (found === undefined) {
      slot.labels[task.row] = NO_IMAGE;
    } else {
      slot.labels[task.row] = this.#dataset.labels[found.index]!;
      slot.indices[task.row] = found.index;
      this.#writeViews(found.image, { epoch: task.epoch, index }, task.row, slot.pixels);
    }
    const { words } = this.#control;
    const done = Atomics.add(words, DONE + slotNumber, 1) + 1;
    if (done === imagesAt(this.#schedule, task.step)) Atomics.notify(words, DONE + slotNumber);
  }

  /** Tasks are taken in order, so that a thread never goes back to an earlier epoch's order. */
  #indexOf({ epoch, position }: Task): number {
    if (this.#order?.epoch !== epoch) {
      const indices = indicesOf(this.#plan, this.#dataset.count, epoch);
      this.#order = { epoch, indices };
    }
    return this.#order.indices[position]!;
  }

  /** The image, or the next readable one; undefined for an unreadable validation image. */
  async #decodeFrom(
    index: number,
  ): Promise<{ readonly image: RgbImage; readonly index: number } | undefined> {
    const { count } = this.#dataset;
    for (let tried = 0; tried < count; tried++) {
      const candidate = (index + tried) % count;
      const image = await this.#decode(candidate);
      if (image !== undefined) return { image, index: candidate };
      if (this.#plan.kind === "validation") return undefined;
    }
    throw new FleetError("DATA_INVALID", `none of the ${count} images can be read`);
  }

  async #decode(index: number): Promise<RgbImage | undefined> {
    const { unreadable } = this.#control;
    const bit = 1 << (index & 31);
    if ((Atomics.load(unreadable, index >> 5) & bit) !== 0) return undefined;
    const cached = this.#cache && cachedImage(this.#cache, index);
    if (cached !== undefined) return cached;
    try {
      const image = await decodeImage(this.#reader.read(index));
      if (this.#cache !== undefined) cacheImage(this.#cache, index, image);
      return image;
    } catch (thrown) {
      const isNew = (Atomics.or(unreadable, index >> 5, bit) & bit) === 0;
      if (isNew) this.#countSkip(index, thrown);
      return undefined;
    }
  }

  #countSkip(index: number, thrown: unknown): void {
    const path = imageName(this.#dataset, index);
    const reason = thrown instanceof Error ? thrown.message : String(thrown);
    const total = Atomics.add(this.#control.words, SKIPPED, 1) + 1;
    this.#onSkipped({ path, reason, total });
    const { skipLimit } = this.#plan;
    if (total <= skipLimit) return;
    throw new FleetError(
      "DATA_INVALID",
      `${total} images cannot be read, more than the limit of ${skipLimit} (data.skipLimit); ` +
        `the last one: ${path} ${reason}`,
      { path, skipped: total, skipLimit },
    );
  }

  #writeViews(
    image: RgbImage,
    key: { readonly epoch: number; readonly index: number },
    row: number,
    pixels: Uint8Array,
  ): void {
    const { views } = this.#schedule;
    const target = this.#view;
    for (let view = 0; view < views; view++) {
      this.#makeView(image, { ...key, view });
      const begin = (row * views + view) * target.data.length;
      writePlanes(target.data, pixels.subarray(begin, begin + target.data.length));
    }
  }

  #makeView(
    image: RgbImage,
    key: { readonly epoch: number; readonly index: number; readonly view: number },
  ): void {
    const plan = this.#plan;
    const { seed, imageSize } = plan;
    switch (plan.kind) {
      case "pretrain": {
        const random = new RandomStream({ ...key, seed });
        augmentView(image, plan.augmentation, imageSize, random, this.#view);
        return;
      }
      case "linear": {
        const random = new RandomStream({ ...key, seed, view: LINEAR_VIEW });
        linearTrainView(image, plan, imageSize, random, this.#view);
        return;
      }
      case "validation":
        validationView(image, plan, imageSize, this.#view);
    }
  }
}

/** Interleaved channels to one plane per channel. */
function writePlanes(interleaved: Uint8Array, planes: Uint8Array): void {
  const plane = interleaved.length / 3;
  for (let i = 0, from = 0; i < plane; i++, from += 3) {
    planes[i] = interleaved[from]!;
    planes[plane + i] = interleaved[from + 1]!;
    planes[2 * plane + i] = interleaved[from + 2]!;
  }
}
