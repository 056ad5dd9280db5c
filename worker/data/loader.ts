/**
 * The work of a loader thread: takes images off the plan, one by one, and puts their views into the
 * ring.
 *
 * Which loader takes which image is left to chance; what becomes of it is not. An unreadable image
 * is replaced by the next readable one of the data set, which depends on the data alone.
 */

/// <reference lib="es2024.sharedmemory" />

import { FleetError } from "../../proto/errors.ts";
import { type Dataset, imageName } from "./dataset.ts";
import { decodeImage } from "./decode.ts";
import { cachedImage, cacheImage, type DecodeCache, fitsCache } from "./decode-cache.ts";
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
import { type ImageKeeper, type ViewKey, ViewMaker } from "./view-maker.ts";

/**
 * Images that a thread has in flight. What libvips decodes, it decodes in threads of its own: while
 * it is at some, others can be augmented.
 */
const LANES = 4;
/** A lost wake-up would cost this much time; none is known to be possible. */
const WAIT_MS = 1000;

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
  readonly #views: ViewMaker;
  #order: { readonly epoch: number; readonly indices: Int32Array } | undefined;

  constructor({ dataset, plan, ring, cache }: LoaderInput, onSkipped: (skip: Skip) => void) {
    this.#dataset = dataset;
    this.#plan = plan;
    this.#schedule = scheduleOf(plan, dataset.count);
    this.#control = viewControl(ring.control);
    this.#slots = ring.slots.map((slot) => viewSlot(slot, this.#schedule.batch));
    this.#reader = new EntryReader(dataset);
    this.#cache = cache;
    this.#onSkipped = onSkipped;
    this.#views = new ViewMaker(plan);
  }

  close(): void {
    this.#reader.close();
    this.#views.close();
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
    const slotNumber = (task.step - this.#schedule.startStep) % RING_DEPTH;
    const slot = this.#slots[slotNumber]!;
    const imageBytes = this.#schedule.views * 3 * this.#plan.imageSize ** 2;
    const begin = task.row * imageBytes;
    const target = slot.pixels.subarray(begin, begin + imageBytes);
    const found = await this.#makeViews({ epoch: task.epoch, index }, target);
    slot.labels[task.row] = found === undefined ? NO_IMAGE : this.#dataset.labels[found]!;
    slot.indices[task.row] = found ?? index;
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

  /**
   * Makes the views of the image, or of the next readable one.
   *
   * @returns the number of the image that was used; undefined for an unreadable validation image
   */
  async #makeViews(key: ViewKey, target: Uint8Array): Promise<number | undefined> {
    const { count } = this.#dataset;
    for (let tried = 0; tried < count; tried++) {
      const candidate = (key.index + tried) % count;
      if (await this.#makeViewsOf(candidate, key, target)) return candidate;
      if (this.#plan.kind === "validation") return undefined;
    }
    throw new FleetError("DATA_INVALID", `none of the ${count} images can be read`);
  }

  /** @returns false if the image cannot be read */
  async #makeViewsOf(index: number, key: ViewKey, target: Uint8Array): Promise<boolean> {
    const { unreadable } = this.#control;
    const bit = 1 << (index & 31);
    if ((Atomics.load(unreadable, index >> 5) & bit) !== 0) return false;
    const cache = this.#cache;
    const cached = cache && cachedImage(cache, index);
    if (cached !== undefined) {
      this.#views.paint(cached, key, target);
      return true;
    }
    const bytes = await this.#unlessUnreadable(index, () => this.#reader.read(index));
    if (bytes === undefined) return false;
    const keep: ImageKeeper | undefined = cache && {
      wants: (size) => fitsCache(cache, size),
      take: (image) => cacheImage(cache, index, image),
    };
    if (this.#views.paintJpeg(bytes, key, target, keep)) return true;
    const image = await this.#unlessUnreadable(index, () => decodeImage(bytes));
    if (image === undefined) return false;
    keep?.take(image);
    this.#views.paint(image, key, target);
    return true;
  }

  /** What `work` gives; if it throws, the image counts as unreadable from now on. */
  async #unlessUnreadable<T>(index: number, work: () => T | Promise<T>): Promise<T | undefined> {
    try {
      return await work();
    } catch (thrown) {
      const bit = 1 << (index & 31);
      const isNew = (Atomics.or(this.#control.unreadable, index >> 5, bit) & bit) === 0;
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
}
