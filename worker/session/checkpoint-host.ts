/**
 * The checkpoint thread, seen from the main thread: one per process, started for the first stage
 * that writes checkpoints.
 *
 * Whether anything is still to be written is read from the words of the link, so that a request
 * that is under way from the engine thread counts from the moment it is made.
 */

import { MessageChannel, type MessagePort, type Worker } from "node:worker_threads";
import { FleetError } from "../../proto/errors.ts";
import { within } from "../../proto/within.ts";
import {
  type CheckpointLink,
  type CheckpointThreadMessage,
  type CheckpointThreadRequest,
  LINK_ASKED,
  LINK_DIED,
  LINK_SETTLED,
  LINK_WORDS,
  type OpenStage,
  type SaveEvent,
} from "../checkpoint/checkpoint-link.ts";
import { startThread } from "./threads.ts";

/** A process that leaves waits so long for storage that does not answer. */
const CLOSE_MS = 60_000;

/** What has come of a stage's checkpoints. */
interface Kept {
  /** Step of the newest that is durable; of those that this link has written. */
  readonly step: number | undefined;
  /** Why the newest could not be written; undefined when it was. */
  readonly error: FleetError | undefined;
}

/** Where a stage's rank 0 writes its checkpoints. */
export interface StageCheckpoints {
  /** For the engine thread, with its job; its port moves there. */
  readonly link: CheckpointLink;
  /** What has come of them until now. */
  readonly kept: Kept;
  /** Resolves as soon as nothing waits and nothing is being written. Never rejects. */
  idle(): Promise<Kept>;
  /** What is still waiting is written all the same. */
  close(): void;
}

export class CheckpointHost {
  #thread: Worker | undefined;
  readonly #open = new Map<number, OpenedStage>();
  #opened = 0;

  /** @param onEvent hears of each checkpoint once it is durable, or has failed */
  open(
    place: Pick<OpenStage, "store" | "keep">,
    onEvent: (event: SaveEvent) => void,
  ): StageCheckpoints {
    const id = this.#opened++;
    const { port1: port, port2: threadPort } = new MessageChannel();
    const words = new Int32Array(new SharedArrayBuffer(LINK_WORDS * 4));
    this.#thread ??= this.#start();
    const stage: OpenStage = { ...place, id, link: { port: threadPort, words } };
    this.#tell({ type: "open", stage }, [threadPort]);
    const opened = new OpenedStage({ port, words }, onEvent, () => {
      if (this.#open.delete(id)) this.#tell({ type: "close", id });
    });
    this.#open.set(id, opened);
    return opened;
  }

  /** Resolves as soon as nothing of any stage waits or is being written. */
  async idle(): Promise<void> {
    await Promise.all([...this.#open.values()].map((stage) => stage.idle()));
  }

  /** Ends the thread once nothing is being written, or after a minute. */
  async close(): Promise<void> {
    await within(this.idle(), CLOSE_MS);
    await this.#thread?.terminate();
  }

  #tell(request: CheckpointThreadRequest, moved: readonly MessagePort[] = []): void {
    this.#thread?.postMessage(request, moved);
  }

  #start(): Worker {
    const thread = startThread("../checkpoint/checkpoint-thread", import.meta.url, undefined);
    const end = (error: FleetError): void => {
      if (this.#thread !== thread) return;
      this.#thread = undefined;
      for (const stage of this.#open.values()) stage.died(error);
    };
    thread.on("message", ({ id, number, event }: CheckpointThreadMessage) =>
      this.#open.get(id)?.heard(number, event),
    );
    thread.once("error", (error) => end(FleetError.from(error)));
    thread.once("exit", () => end(new FleetError("UNEXPECTED", "the checkpoint thread has ended")));
    return thread;
  }
}

class OpenedStage implements StageCheckpoints {
  readonly link: CheckpointLink;
  readonly #onEvent: (event: SaveEvent) => void;
  readonly #forget: () => void;
  readonly #waiting: ((kept: Kept) => void)[] = [];
  #kept: Kept = { step: undefined, error: undefined };
  /** Number of the newest request that was dealt with. */
  #heardOf = 0;
  #isClosed = false;

  constructor(link: CheckpointLink, onEvent: (event: SaveEvent) => void, forget: () => void) {
    this.link = link;
    this.#onEvent = onEvent;
    this.#forget = forget;
  }

  get kept(): Kept {
    return this.#kept;
  }

  idle(): Promise<Kept> {
    if (this.#isIdle) return Promise.resolve(this.#kept);
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  close(): void {
    this.#isClosed = true;
    this.#settle();
  }

  heard(number: number, event: SaveEvent): void {
    const error = event.type === "checkpoint" ? undefined : FleetError.fromPlain(event.error);
    this.#kept = { step: error ? this.#kept.step : event.step, error };
    this.#heardOf = number;
    this.#onEvent(event);
    this.#settle();
  }

  died(error: FleetError): void {
    const { words } = this.link;
    Atomics.store(words, LINK_DIED, 1);
    Atomics.notify(words, LINK_SETTLED);
    this.#kept = { ...this.#kept, error };
    this.#settle();
  }

  get #isIdle(): boolean {
    const { words } = this.link;
    const isSettled = Atomics.load(words, LINK_ASKED) === this.#heardOf;
    return isSettled || Atomics.load(words, LINK_DIED) === 1;
  }

  #settle(): void {
    if (!this.#isIdle) return;
    for (const resolve of this.#waiting.splice(0)) resolve(this.#kept);
    if (this.#isClosed) this.#forget();
  }
}
