/** Our side: one process per rank on this machine, from start to the last one's end. */

import { type ChildProcess, fork } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { FleetError } from "../../../proto/errors.ts";
import type { StepReport } from "../../../worker/train/stage-job.ts";
import { type RunOptions, withinRun } from "../within-run.ts";
import { workerFlags } from "../worker-flags.ts";
import { measurementOf, type StepMeasurement } from "./measurement.ts";
import type { RankMeasurement, RankMessage, RankPeers, RankTask } from "./rank-messages.ts";
import { type StepSpec, stepsRun } from "./step-spec.ts";

/** When a rank dies, the others report the end of the gang; the death is to be heard first. */
const EFFECT_DELAY_MS = 500;

/**
 * Measures our step. Whatever happens, no process is left.
 *
 * @throws {FleetError} ENGINE_UNAVAILABLE, USAGE and whatever a stage may end with; UNEXPECTED when
 *   a rank dies or the run takes too long
 */
export async function runRanks(
  spec: StepSpec,
  options: RunOptions & { readonly profile: boolean },
): Promise<StepMeasurement> {
  const folder = path.join(tmpdir(), `simclr-bench-${randomUUID()}`);
  const ranks = Array.from({ length: spec.world }, (_, rank) => {
    const profile = options.profile && rank === 0;
    return new Rank({ rank, spec, profile, folder, timeoutMs: options.timeoutMs });
  });
  try {
    const whereabouts = () => ranks.map(({ whereabouts: text }) => text).join(", ");
    return await withinRun(measure(spec, ranks), options, whereabouts);
  } finally {
    await Promise.all(ranks.map((rank) => rank.end()));
    await rm(folder, { recursive: true, force: true });
  }
}

async function measure(spec: StepSpec, ranks: readonly Rank[]): Promise<StepMeasurement> {
  const addresses = await Promise.all(ranks.map(({ listening }) => listening));
  const peers = addresses.map((address, rank) => ({ workerId: `rank-${rank}`, address }));
  for (const rank of ranks) rank.send({ peers });
  const measured = await Promise.all(ranks.map(({ measured }) => measured));
  const [first] = measured as [RankMeasurement];
  const peakRssMb = Math.max(...measured.map((rank) => rank.peakRssMb));
  return measurementOf(spec, ranks[0]?.reports ?? [], { ...first, peakRssMb });
}

class Rank {
  /** Its peer server's address. */
  readonly listening: Promise<string>;
  readonly measured: Promise<RankMeasurement>;
  readonly reports: StepReport[] = [];
  readonly #task: RankTask;
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;

  constructor(task: RankTask) {
    this.#task = task;
    // Standard output belongs to the result.
    this.#child = fork(fileURLToPath(new URL("./rank-process.js", import.meta.url)), {
      execArgv: workerFlags(),
      stdio: ["ignore", process.stderr, process.stderr, "ipc"],
    });
    // What it said last may be read only after it has exited.
    this.#exited = Promise.all([once(this.#child, "exit"), once(this.#child, "disconnect")]);
    this.#exited.catch(() => {});
    const failed = this.#failure();
    this.listening = Promise.race([this.#message("listening").then((m) => m.address), failed]);
    this.measured = Promise.race([this.#message("measured").then((m) => m.measurement), failed]);
    // Only the rank that fails first is waited for to the end.
    this.listening.catch(() => {});
    this.measured.catch(() => {});
    this.#child.on("message", (message: RankMessage) => {
      if (message.type === "step") this.reports.push(message.report);
    });
    this.send(task);
  }

  /** e.g. "rank 1 (process 4711) had finished 3 of 7 steps" */
  get whereabouts(): string {
    const done = this.reports.length;
    return `${this.#name} had finished ${done} of ${stepsRun(this.#task.spec)} steps`;
  }

  send(message: RankTask | RankPeers): void {
    // A process that has ended is noticed by its end.
    this.#child.send(message, () => {});
  }

  /** Ends the process, if it has not ended by itself. */
  async end(): Promise<void> {
    const { exitCode, signalCode } = this.#child;
    if (exitCode === null && signalCode === null) this.#child.kill("SIGKILL");
    await this.#exited.catch(() => {});
  }

  get #name(): string {
    return `rank ${this.#task.rank} (process ${this.#child.pid})`;
  }

  #message<Type extends RankMessage["type"]>(
    type: Type,
  ): Promise<Extract<RankMessage, { type: Type }>> {
    return new Promise((resolve) => {
      this.#child.on("message", (message: RankMessage) => {
        if (message.type === type) resolve(message as Extract<RankMessage, { type: Type }>);
      });
    });
  }

  /** Rejects when the rank says that it failed, or ends without a word. */
  async #failure(): Promise<never> {
    const told = this.#message("failed").then(({ error }) => FleetError.fromPlain(error));
    const gone = this.#exited.then(() => {
      const { exitCode, signalCode } = this.#child;
      const how = signalCode ? `by ${signalCode}` : `with code ${exitCode}`;
      return new FleetError("UNEXPECTED", `${this.#name} ended ${how}`);
    });
    const error = await Promise.race([told, gone]);
    if (error.code === "GENERATION_ABORTED") await setTimeout(EFFECT_DELAY_MS);
    throw error;
  }
}
