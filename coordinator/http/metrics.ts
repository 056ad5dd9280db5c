/**
 * Prometheus metrics of the coordinator. Everything is read from the scheduler when it is asked
 * for, so that the series of workers that left and of experiments that ended go with them.
 */

import { Counter, collectDefaultMetrics, Gauge, Registry } from "prom-client";
import { addDiskMetrics } from "../../proto/disk-metrics.ts";
import { PROTOCOL_VERSION, SOFTWARE_VERSION } from "../../proto/version.ts";
import type { ControlRefusals } from "../control/refusal-reasons.ts";
import type { ReportedFailures } from "../control/reported-failures.ts";
import type { Experiment, StageProgress } from "../experiment/experiment.ts";
import type { Clock, Scheduler } from "../scheduling/scheduler.ts";
import type { Store } from "../store/store.ts";
import { addExperimentMetrics } from "./experiment-metrics.ts";
import { addGangMetrics } from "./gang-metrics.ts";
import { addStoreMetrics } from "./store-metrics.ts";

const WORKER_STATES = ["idle", "busy", "lost"] as const;

export interface MetricsSource {
  readonly scheduler: Pick<Scheduler, "experiments" | "members" | "stragglers">;
  readonly store: Pick<Store, "queueDepth" | "leadership" | "redisFacts" | "redisReconnects">;
  readonly clock: Clock;
  readonly refusals: Pick<ControlRefusals, "counts">;
  readonly failures: Pick<ReportedFailures, "counts">;
  /** Where the coordinator's own Redis writes; undefined when it has none. */
  readonly stateDir: string | undefined;
  /** Undefined when the workers are started by others. */
  readonly launcher: { readonly problem: string | undefined } | undefined;
}

/** A registry whose every reading is of the moment. */
export function createMetrics(source: MetricsSource): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  addBuildInfo(registry);
  addLeadership(registry, source);
  addExperimentMetrics(registry, source);
  addProgress(registry, source);
  addGangMetrics(registry, source);
  addWorkers(registry, source);
  addStoreMetrics(registry, source);
  addLauncher(registry, source);
  const { stateDir: folder } = source;
  if (folder !== undefined) addDiskMetrics(registry, { process: "coordinator", folder });
  addTally(registry, {
    name: "simclr_refused_messages_total",
    help: "Connections, calls and messages that were not taken.",
    label: "reason",
    counts: () => source.refusals.counts,
  });
  addTally(registry, {
    name: "simclr_failures_total",
    help: "Failures that members of gangs have reported, by error.",
    label: "code",
    counts: () => source.failures.counts,
  });
  return registry;
}

function addLauncher(registry: Registry, { launcher }: MetricsSource): void {
  if (!launcher) return;
  new Gauge({
    name: "simclr_launcher_problem",
    help: "1 while workers cannot be launched on Kubernetes; the log says why.",
    registers: [registry],
    collect() {
      this.set(launcher.problem === undefined ? 0 : 1);
    },
  });
}

function addBuildInfo(registry: Registry): void {
  new Gauge({
    name: "simclr_build_info",
    help: "1, with the versions of this coordinator as labels.",
    labelNames: ["version", "protocol", "node"],
    registers: [registry],
  }).set({ version: SOFTWARE_VERSION, protocol: PROTOCOL_VERSION, node: process.version }, 1);
}

function addLeadership(registry: Registry, { store }: MetricsSource): void {
  new Gauge({
    name: "simclr_coordinator_leader",
    help: "1 while this coordinator leads, 0 while it stands by.",
    registers: [registry],
    collect() {
      this.set(Number(store.leadership.isLeading));
    },
  });
  new Gauge({
    name: "simclr_coordinator_epoch",
    help: "Epoch of the leader: rises whenever another coordinator takes over.",
    registers: [registry],
    collect() {
      this.set(store.leadership.epoch);
    },
  });
}

/** One gauge per figure of rank 0's last report, for the experiments whose gang is at work. */
const PROGRESS_GAUGES: Readonly<Record<string, [help: string, keyof StageProgress]>> = {
  simclr_stage_step: ["Last step applied.", "step"],
  simclr_stage_steps: ["Steps of the whole stage.", "stepsTotal"],
  simclr_stage_epoch: ["Epochs completed, with a fraction.", "epoch"],
  simclr_stage_loss: ["Training loss of the last step reported.", "loss"],
  simclr_stage_learning_rate: ["Learning rate of the last step reported.", "lr"],
  simclr_stage_images_per_second: ["Source images per second, whole gang.", "imagesPerSecond"],
  simclr_stage_eta_seconds: ["Estimated time to the end of the stage.", "etaSeconds"],
  simclr_stage_top1_percent: ["Latest top-1 accuracy on the validation set.", "top1"],
  simclr_stage_top5_percent: ["Latest top-5 accuracy on the validation set.", "top5"],
  simclr_stage_skipped_images: ["Images that rank 0 could not read.", "skippedImages"],
  simclr_stage_checkpoint_step: ["Newest step in a durable checkpoint.", "checkpointStep"],
  simclr_stage_checkpoint_failures: [
    "Checkpoints of this generation that could not be written.",
    "checkpointFailures",
  ],
  simclr_stage_allreduce_seconds: ["Time of a step's all-reduces.", "allReduceSeconds"],
  simclr_stage_allreduce_hidden_ratio: ["Share of it not waited for.", "allReduceHidden"],
  simclr_stage_loss_bound: ["ln(2N - 1): the loss when all pairs look alike.", "lossBound"],
  simclr_stage_loss_at_bound: ["1 while the loss sits at its bound.", "lossAtBound"],
  simclr_stage_probe_top1_percent: ["Latest top-1 of the online probe.", "probeTop1"],
  simclr_stage_probe_top5_percent: ["Latest top-5 of the online probe.", "probeTop5"],
};

function isAtWork({ phase }: Experiment): boolean {
  return "gang" in phase;
}

function addProgress(registry: Registry, { scheduler }: MetricsSource): void {
  for (const [name, [help, figure]] of Object.entries(PROGRESS_GAUGES)) {
    new Gauge({
      name,
      help,
      labelNames: ["experiment", "stage"],
      registers: [registry],
      collect() {
        this.reset();
        for (const { id, progress } of scheduler.experiments().filter(isAtWork)) {
          const value = progress?.[figure];
          if (!progress || (typeof value !== "number" && typeof value !== "boolean")) continue;
          this.set({ experiment: id, stage: progress.stage }, Number(value));
        }
      },
    });
  }
  for (const accuracy of ["top1", "top5"] as const) {
    new Gauge({
      name: `simclr_stage_knn_${accuracy}_percent`,
      help: `Latest ${accuracy} accuracy of the k nearest neighbours.`,
      labelNames: ["experiment", "stage", "k"],
      registers: [registry],
      collect() {
        this.reset();
        for (const { id, progress } of scheduler.experiments().filter(isAtWork)) {
          if (!progress) continue;
          for (const { neighbours: k, [accuracy]: percent } of progress.knn ?? []) {
            this.set({ experiment: id, stage: progress.stage, k }, percent);
          }
        }
      },
    });
  }
}

function addWorkers(registry: Registry, { scheduler, clock }: MetricsSource): void {
  new Gauge({
    name: "simclr_workers",
    help: "Workers by state.",
    labelNames: ["state"],
    registers: [registry],
    collect() {
      const members = scheduler.members();
      for (const state of WORKER_STATES) {
        this.set({ state }, members.filter(({ status }) => status === state).length);
      }
    },
  });
  new Gauge({
    name: "simclr_worker_heartbeat_age_seconds",
    help: "Time since a worker was last heard of; absent for lost workers.",
    labelNames: ["worker"],
    registers: [registry],
    collect() {
      this.reset();
      const now = clock.monotonicMs();
      for (const { status, facts, heardMs } of scheduler.members()) {
        if (status !== "lost") this.set({ worker: facts.id }, Math.max(0, now - heardMs) / 1_000);
      }
    },
  });
}

/** A counter by the values of one label that somebody else keeps. */
function addTally(
  registry: Registry,
  tally: {
    readonly name: string;
    readonly help: string;
    readonly label: string;
    readonly counts: () => ReadonlyMap<string, number>;
  },
): void {
  const { name, help, label, counts } = tally;
  new Counter({
    name,
    help,
    labelNames: [label],
    registers: [registry],
    collect() {
      this.reset();
      for (const [value, count] of counts()) this.inc({ [label]: value }, count);
    },
  });
}
