/**
 * The data of a monitor, on the main thread: loaders that live for one pass over a split.
 *
 * Between two passes there is no thread and no ring: a pass comes once in several epochs, and idle
 * loaders would cost as much memory as those of the training.
 */

import { MessageChannel, type MessagePort } from "node:worker_threads";
import { FleetError } from "../../proto/errors.ts";
import type { Loaders } from "../data/loaders.ts";
import {
  CONTROL_ANSWERS,
  type MonitorAnswer,
  type MonitorRequest,
  type MonitorSplit,
} from "../train/stage-job.ts";

export class MonitorLoaders {
  /** For the engine thread. */
  readonly port: MessagePort;
  readonly #own: MessagePort;
  readonly #control: Int32Array<SharedArrayBuffer>;
  readonly #start: (split: MonitorSplit) => Promise<Loaders>;
  #loaders: Loaders | undefined;
  /** One request after the other. */
  #turn: Promise<void> = Promise.resolve();
  #isClosed = false;

  /** @param start begins to load a pass */
  constructor(
    control: Int32Array<SharedArrayBuffer>,
    start: (split: MonitorSplit) => Promise<Loaders>,
  ) {
    const { port1, port2 } = new MessageChannel();
    this.port = port2;
    this.#own = port1;
    this.#control = control;
    this.#start = start;
    port1.on("message", (request: MonitorRequest) => {
      this.#turn = this.#turn.then(() => this.#serve(request));
    });
  }

  /** Ends a pass wherever it is: its reader gets GENERATION_ABORTED. May be called twice. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const loaders = this.#loaders?.close();
    this.#own.close();
    await Promise.all([loaders, this.#turn]);
  }

  async #serve(request: MonitorRequest): Promise<void> {
    await this.#loaders?.close();
    this.#loaders = undefined;
    if (request.type === "open") this.#answer(await this.#open(request.split));
  }

  async #open(split: MonitorSplit): Promise<MonitorAnswer> {
    try {
      const loaders = await this.#start(split);
      this.#loaders = loaders;
      if (this.#isClosed) await loaders.close();
      return { type: "opened", batches: loaders.shared };
    } catch (thrown) {
      return { type: "failed", error: FleetError.from(thrown).toPlain() };
    }
  }

  #answer(answer: MonitorAnswer): void {
    this.#own.postMessage(answer);
    Atomics.add(this.#control, CONTROL_ANSWERS, 1);
    Atomics.notify(this.#control, CONTROL_ANSWERS);
  }
}
