/** A rank's engine thread, seen from the main thread of its process. */

import type { Worker } from "node:worker_threads";
import { FleetError } from "../../../proto/errors.ts";
import { startThread } from "../../../worker/session/threads.ts";
import type { StageJob, StepReport } from "../../../worker/train/stage-job.ts";
import type {
  RankFindings,
  RankThreadData,
  RankThreadJob,
  RankThreadMessage,
} from "./rank-messages.ts";

type Ready = Extract<RankThreadMessage, { type: "ready" }>;

export class RankEngine {
  readonly name: string;
  readonly device: string;
  readonly #thread: Worker;

  private constructor(thread: Worker, { engine, device }: Ready) {
    this.#thread = thread;
    this.name = engine;
    this.device = device;
  }

  /** @throws {FleetError} ENGINE_UNAVAILABLE, USAGE */
  static async open(data: RankThreadData): Promise<RankEngine> {
    const thread = startThread("./rank-engine-thread", import.meta.url, data);
    return new RankEngine(thread, await answer(thread, "ready"));
  }

  /** Runs all steps. */
  async run(job: StageJob, onStep: (report: StepReport) => void): Promise<RankFindings> {
    this.#thread.on("message", (message: RankThreadMessage) => {
      if (message.type === "step") onStep(message.report);
    });
    const done = answer(this.#thread, "done");
    const message: RankThreadJob = { job };
    this.#thread.postMessage(message, job.group ? [job.group.port] : []);
    return (await done).findings;
  }

  async close(): Promise<void> {
    await this.#thread.terminate();
  }
}

/** Waits for a message of one type; rejects when the thread fails or ends before. */
function answer<Type extends RankThreadMessage["type"]>(
  thread: Worker,
  type: Type,
): Promise<Extract<RankThreadMessage, { type: Type }>> {
  return new Promise((resolve, reject) => {
    thread.on("message", (message: RankThreadMessage) => {
      if (message.type === type) resolve(message as Extract<RankThreadMessage, { type: Type }>);
      if (message.type === "failed") reject(FleetError.fromPlain(message.error));
    });
    thread.once("error", (error) => reject(FleetError.from(error)));
    thread.once("exit", (code) =>
      reject(new FleetError("UNEXPECTED", `the engine thread ended with code ${code}`)),
    );
  });
}
