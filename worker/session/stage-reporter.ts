/** Passes on what a running stage tells: to metrics and log, and from rank 0 to the coordinator. */

import type { Assignment, RankTimes } from "../../proto/gen/coordinator.ts";
import type { Log } from "../../proto/log.ts";
import type { PeerGroup } from "../collective/peer-group.ts";
import type { StageEvent } from "./engine-host.ts";
import { ProgressLines } from "./progress-lines.ts";
import { ProgressReporter } from "./progress-reporter.ts";
import { withStep } from "./rank-times.ts";
import type { StageRunner } from "./stage-runner.ts";
import { StorageProblems } from "./storage-problems.ts";
import type { WorkerMetrics } from "./worker-metrics.ts";

/** An assignment, and how far it has come. */
export interface ActiveStage {
  readonly assignment: Assignment;
  readonly runner: StageRunner;
  /** Of the assignment. */
  readonly log: Log;
  step: number;
  times: RankTimes | undefined;
}

export class StageReporter {
  readonly #stage: ActiveStage;
  readonly #metrics: WorkerMetrics;
  readonly #lines: ProgressLines;
  readonly #progress: ProgressReporter | undefined;
  readonly #storage: StorageProblems;
  #group: PeerGroup | undefined;
  #reduced = { allReduces: 0, allReduceBytes: 0, allReduceSeconds: 0 };

  constructor(
    stage: ActiveStage,
    metrics: WorkerMetrics,
    send: ConstructorParameters<typeof ProgressReporter>[1],
  ) {
    this.#stage = stage;
    this.#metrics = metrics;
    this.#lines = new ProgressLines(stage.log);
    const { experimentId, generation, peers, rank, stage: wireStage } = stage.assignment;
    this.#storage = new StorageProblems(stage.log);
    const reported = { experimentId, generation, stage: wireStage, worldSize: peers.length };
    this.#progress = rank === 0 ? new ProgressReporter(reported, send) : undefined;
  }

  onGroup = (group: PeerGroup): void => {
    this.#group = group;
  };

  onSkipped = (skip: { readonly path: string; readonly reason: string }): void => {
    const { log, step } = this.#stage;
    const { path, reason: because } = skip;
    log.warn({ event: "unreadable image replaced", step, path, because });
    this.#metrics.skippedImage();
    this.#progress?.skippedImage();
  };

  onEvent = (event: StageEvent): void => {
    const nowMs = performance.now();
    const { log, step, assignment } = this.#stage;
    switch (event.type) {
      case "running":
      case "predictions":
      case "trace":
        return;
      case "notice":
        log.info({ event: "notice", step, note: event.message });
        return;
      case "warning":
        log.warn({ event: "warning", step, note: event.message });
        return;
      case "step":
        this.#stage.step = event.report.step;
        this.#stage.times = withStep(this.#stage.times, event.report);
        this.#metrics.step(event.report);
        this.flushGroup();
        this.#lines.step(event.report, nowMs);
        this.#progress?.step(event.report, nowMs);
        return;
      case "validated":
        if (assignment.rank === 0) this.#lines.validated(event, step);
        this.#progress?.validated(event, nowMs);
        return;
      case "monitored":
        if (assignment.rank === 0) this.#lines.monitored(event.figures);
        this.#metrics.monitored(event.figures, event.seconds);
        this.#progress?.monitored(event.figures, nowMs);
        return;
      case "checkpoint":
        this.#metrics.checkpoint(event);
        this.#storage.note("checkpoints", undefined, step);
        this.#progress?.checkpoint(event.step, nowMs);
        this.#progress?.storage(this.#storage.present, nowMs);
        return;
      case "checkpoint-failed":
        if (event.error.code !== "STORAGE_FAILED") return;
        this.#metrics.checkpointFailed();
        this.#progress?.checkpointFailed();
        this.#storage.note("checkpoints", event.error.message, step);
        this.#progress?.storage(this.#storage.present, nowMs);
        return;
      case "log":
        this.#storage.note("log", event.problem, step);
        this.#progress?.storage(this.#storage.present, nowMs);
        return;
    }
  };

  /** Books what the group has reduced since the last call. */
  flushGroup(): void {
    if (!this.#group) return;
    const now = this.#group.stats();
    this.#metrics.reduced({
      allReduces: now.allReduces - this.#reduced.allReduces,
      allReduceBytes: now.allReduceBytes - this.#reduced.allReduceBytes,
      allReduceSeconds: now.allReduceSeconds - this.#reduced.allReduceSeconds,
    });
    this.#reduced = now;
  }
}
