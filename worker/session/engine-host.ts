/** The engine thread, seen from the main thread. */

import { once } from "node:events";
import type { Worker } from "node:worker_threads";
import { FleetError } from "../../proto/errors.ts";
import type { SaveEvent } from "../checkpoint/checkpoint-link.ts";
import type { EngineThreadData } from "../train/engine-thread.ts";
import type { ReplicaKey } from "../train/replica.ts";
import {
  CONTROL_ANSWERS,
  CONTROL_STOP,
  type EngineThreadMessage,
  type MainThreadMessage,
  type STOP_AT_STEP,
  type STOP_NOW,
  type StageJob,
  type StageResult,
} from "../train/stage-job.ts";
import { startThread } from "./threads.ts";

/** A gang that was not formed anew by then may be of no interest any more; memory is. */
const REPLICA_KEPT_MS = 900_000;

/** How a stage ended on this rank. */
export type StageOutcome =
  | { readonly type: "finished"; readonly step: number; readonly result: StageResult | undefined }
  | {
      readonly type: "stopped";
      readonly step: number;
      /** Newest of its checkpoints that is durable. */
      readonly checkpointStep: number | undefined;
      readonly error: FleetError;
    };

type EngineEvent = Exclude<
  EngineThreadMessage,
  { readonly type: "ready" | "unavailable" | "finished" | "stopped" }
>;

/** What a running stage tells: by its engine thread, and by the one that writes its checkpoints. */
export type StageEvent = EngineEvent | SaveEvent;

export class EngineHost {
  readonly name: string;
  readonly device: string;
  /** Which engine was taken and why others were not. */
  readonly notes: readonly string[];
  readonly #thread: Worker;
  /** Rejects when the thread dies, which only a defect or a crash of native code brings about. */
  readonly died: Promise<never>;
  /** What the thread keeps in memory of the last stage that ended early. */
  #replica: (ReplicaKey & { readonly step: number }) | undefined;
  #forgetting: NodeJS.Timeout | undefined;

  private constructor(
    thread: Worker,
    died: Promise<never>,
    ready: Extract<EngineThreadMessage, { type: "ready" }>,
  ) {
    this.#thread = thread;
    this.died = died;
    this.name = ready.name;
    this.device = ready.device;
    this.notes = ready.notes;
  }

  /** @throws {FleetError} ENGINE_UNAVAILABLE, USAGE */
  static async start(options: EngineThreadData): Promise<EngineHost> {
    const thread = startThread("../train/engine-thread", import.meta.url, options);
    const died = new Promise<never>((_, reject) => {
      thread.once("error", (error) => reject(FleetError.from(error)));
      thread.once("exit", (code) =>
        reject(new FleetError("UNEXPECTED", `the engine thread ended with code ${code}`)),
      );
    });
    // Whoever waits on `died` sees the rejection; without a waiter it must not end the process.
    died.catch(() => {});
    const [message] = (await Promise.race([once(thread, "message"), died])) as [
      EngineThreadMessage,
    ];
    if (message.type === "ready") return new EngineHost(thread, died, message);
    await thread.terminate();
    if (message.type === "unavailable") throw FleetError.fromPlain(message.error);
    throw new FleetError("UNEXPECTED", `the engine thread opened with ${message.type}`);
  }

  /** Step of the replica that the thread keeps of this stage; 0 for none. */
  replicaStep({ experimentId, stage }: ReplicaKey): number {
    const kept = this.#replica;
    return kept?.experimentId === experimentId && kept.stage === stage ? kept.step : 0;
  }

  /** Runs one stage; resolves when the thread is free again. */
  async run(job: StageJob, onEvent: (event: EngineEvent) => void): Promise<StageOutcome> {
    const thread = this.#thread;
    const ended = new Promise<StageOutcome>((resolve) => {
      const listen = (message: EngineThreadMessage): void => {
        if (message.type === "finished" || message.type === "stopped") {
          thread.off("message", listen);
          this.#keep(job, message.type === "stopped" ? message.replicaStep : undefined);
          resolve(
            message.type === "finished"
              ? message
              : {
                  ...message,
                  checkpointStep: undefined,
                  error: FleetError.fromPlain(message.error),
                },
          );
        } else if (message.type !== "ready" && message.type !== "unavailable") {
          onEvent(message);
        }
      };
      thread.on("message", listen);
    });
    const linked = [job.group, job.monitor, job.checkpoints];
    const ports = linked.map((link) => link?.port).filter((port) => port !== undefined);
    clearTimeout(this.#forgetting);
    const message: MainThreadMessage = { type: "run", job };
    thread.postMessage(message, ports);
    return Promise.race([ended, this.died]);
  }

  /** Asks a running stage to stop; a later request can only make it more urgent. */
  stop(job: StageJob, how: typeof STOP_AT_STEP | typeof STOP_NOW): void {
    if (Atomics.load(job.control, CONTROL_STOP) >= how) return;
    Atomics.store(job.control, CONTROL_STOP, how);
    Atomics.notify(job.control, CONTROL_ANSWERS);
  }

  #keep({ experimentId, stage }: StageJob, step: number | undefined): void {
    this.#replica = step === undefined ? undefined : { experimentId, stage, step };
    if (!this.#replica) return;
    this.#forgetting = setTimeout(() => {
      this.#replica = undefined;
      const message: MainThreadMessage = { type: "forget" };
      this.#thread.postMessage(message);
    }, REPLICA_KEPT_MS).unref();
  }

  async close(): Promise<void> {
    clearTimeout(this.#forgetting);
    await this.#thread.terminate();
  }
}
