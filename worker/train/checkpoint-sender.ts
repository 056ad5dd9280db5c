/** The engine thread's side of checkpoints: copies a state into a slot, and goes on. */

import assert from "node:assert/strict";
import { performance } from "node:perf_hooks";
import { receiveMessageOnPort } from "node:worker_threads";
import { FleetError } from "../../proto/errors.ts";
import {
  type CheckpointLink,
  LINK_ASKED,
  LINK_DIED,
  LINK_SETTLED,
  type SaveAnswer,
  type SaveRequest,
  SLOT_IS_ENGINES,
  SLOTS,
} from "../checkpoint/checkpoint-link.ts";
import type { Snapshot } from "../checkpoint/checkpoint-store.ts";
import { type ProcessGroup, sharedFloats } from "../collective/process-group.ts";
import type { Allocate, HostTensor, NamedTensors } from "../model/model-state.ts";

/** How long a rank waits before it tells the others that it still does. */
const TELL_MS = 1000;

export class CheckpointSender {
  readonly #link: CheckpointLink;
  readonly #slots = Array.from({ length: SLOTS }, () => new SlotMemory());
  /** Number of the request that was last put into each slot. */
  readonly #numbers = new Array<number>(SLOTS).fill(0);
  #asked = 0;
  /** Of the newest request that was dealt with. */
  #error: FleetError | undefined;

  constructor(link: CheckpointLink) {
    this.#link = link;
  }

  /**
   * Copies a state and has it written. Returns when it is copied.
   *
   * @param copy makes the snapshot; what lies in memory that the argument gave is not copied again
   * @throws {FleetError} as {@link throwIfRefused}
   */
  send(copy: (allocate: Allocate) => Snapshot, { isLast }: Pick<SaveRequest, "isLast">): void {
    this.throwIfRefused();
    const { port, words } = this.#link;
    const started = performance.now();
    const slot = this.#take();
    let snapshot: Snapshot;
    try {
      snapshot = this.#slots[slot]!.hold(copy);
    } catch (thrown) {
      // If one was waiting there it will not come any more.
      Atomics.store(words, LINK_ASKED, Math.max(...this.#numbers));
      throw thrown;
    }
    this.#asked += 1;
    this.#numbers[slot] = this.#asked;
    const copySeconds = (performance.now() - started) / 1000;
    Atomics.store(words, LINK_ASKED, this.#asked);
    Atomics.store(words, slot, this.#asked);
    const request: SaveRequest = { number: this.#asked, slot, snapshot, isLast, copySeconds };
    port.postMessage(request);
  }

  /**
   * Whether the newest state is durable; waits for that for so long.
   *
   * @throws {FleetError} STORAGE_FAILED when it could not be written; as {@link throwIfRefused}
   */
  isSettled(waitMs: number): boolean {
    const { words } = this.#link;
    const settled = Atomics.load(words, LINK_SETTLED);
    if (settled !== this.#asked) Atomics.wait(words, LINK_SETTLED, settled, waitMs);
    const isSettled = Atomics.load(words, LINK_SETTLED) === this.#asked;
    this.throwIfRefused();
    if (isSettled && this.#error) throw this.#error;
    return isSettled;
  }

  /**
   * @throws {FleetError} GENERATION_ABORTED when the store belongs to a later generation,
   *   LOSS_NOT_FINITE when a weight was NaN or infinite, UNEXPECTED
   */
  throwIfRefused(): void {
    const { port, words } = this.#link;
    for (;;) {
      const answer = receiveMessageOnPort(port)?.message as SaveAnswer | undefined;
      if (!answer) break;
      this.#error = answer.error && FleetError.fromPlain(answer.error);
    }
    // What storage fails with is no refusal: the next one may succeed.
    if (this.#error && this.#error.code !== "STORAGE_FAILED") throw this.#error;
    if (Atomics.load(words, LINK_DIED) === 1) {
      throw new FleetError("UNEXPECTED", "the checkpoint thread has ended");
    }
  }

  /** A slot of the engine's: the one that waits to be written, else one that is free. */
  #take(): number {
    const { words } = this.#link;
    for (const [slot, number] of this.#numbers.entries()) {
      if (number === 0) continue;
      if (Atomics.compareExchange(words, slot, number, SLOT_IS_ENGINES) !== number) continue;
      this.#numbers[slot] = 0;
      return slot;
    }
    const free = this.#numbers.findIndex(
      (_, slot) => Atomics.load(words, slot) === SLOT_IS_ENGINES,
    );
    assert.ok(free >= 0, "one slot is being written at most");
    return free;
  }
}

/**
 * Returns once rank 0's newest checkpoint is durable. The others keep being told that it takes its
 * time. Called by all ranks; only rank 0 has a sender.
 *
 * @throws {FleetError} STORAGE_FAILED, GENERATION_ABORTED, LOSS_NOT_FINITE
 */
export function settleTogether(group: ProcessGroup, sender: CheckpointSender | undefined): void {
  for (;;) {
    const isSettled = sender?.isSettled(TELL_MS) ?? true;
    const all = group.allGather(Float32Array.of(Number(isSettled)));
    if (all.every((each) => each === 1)) return;
  }
}

/** Memory that a state is copied to again and again: shared, and kept in the order of asking. */
class SlotMemory {
  readonly #kept: Float32Array<SharedArrayBuffer>[] = [];
  #used = 0;

  /** Moves everything that the snapshot holds into this memory. */
  hold(copy: (allocate: Allocate) => Snapshot): Snapshot {
    this.#used = 0;
    const { model, optimizer, probe, ...rest } = copy((elements) => this.#allocate(elements));
    return {
      ...rest,
      model: this.#share(model),
      optimizer: this.#share(optimizer),
      ...(probe && { probe: this.#share(probe) }),
    };
  }

  #share(tensors: NamedTensors): NamedTensors {
    return new Map([...tensors].map(([name, tensor]) => [name, this.#shareOne(tensor)]));
  }

  #shareOne({ shape, data }: HostTensor): HostTensor {
    if (data.buffer instanceof SharedArrayBuffer) return { shape, data };
    const shared = this.#allocate(data.length);
    shared.set(data);
    return { shape, data: shared };
  }

  #allocate(elements: number): Float32Array<SharedArrayBuffer> {
    const at = this.#used++;
    if (this.#kept[at]?.length !== elements) this.#kept[at] = sharedFloats(elements);
    return this.#kept[at];
  }
}
