/** Prometheus metrics of a worker, names `simclr_worker_*`, base units. */

import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import { addDiskMetrics } from "../../proto/disk-metrics.ts";
import type { Refusals } from "../../proto/refusals.ts";
import { SOFTWARE_VERSION } from "../../proto/version.ts";
import type { SaveEvent } from "../checkpoint/checkpoint-link.ts";
import type { PeerRefusalReason } from "../collective/peer-server.ts";
import type { GroupStats } from "../collective/reduce-stats.ts";
import { type MonitorFigures, PHASES, type StepReport } from "../train/stage-job.ts";
import { ownSeconds } from "./rank-times.ts";

/** From a wasm demo step to a large GPU step. */
const STEP_BUCKETS_S = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

export interface StageLabels {
  readonly experiment: string;
  readonly stage: string;
  readonly rank: number;
}

export class WorkerMetrics {
  readonly registry = new Registry();
  /** All those that have the labels of a stage. */
  readonly #ofStage: { reset(): void }[] = [];
  readonly #step = this.#histogram("step_seconds", "Duration of a training step.", []);
  readonly #own = this.#histogram(
    "own_step_seconds",
    "Part of a step in which the worker did not wait for others.",
    [],
  );
  readonly #wait = this.#histogram("wait_seconds", "Part in which it did.", []);
  readonly #phase = this.#histogram("step_phase_seconds", "Duration of a step's phase.", ["phase"]);
  readonly #images = this.#counter("images_total", "Source images trained on.");
  readonly #skipped = this.#counter("skipped_images_total", "Images that could not be read.");
  readonly #reducedBytes = this.#counter("allreduce_bytes_total", "Bytes put into all-reduces.");
  readonly #reduceSeconds = this.#counter("allreduce_seconds_total", "Time all-reduces ran for.");
  readonly #syncNormSeconds = this.#counter(
    "syncbn_seconds_total",
    "Part of the steps in which batch statistics were exchanged.",
  );
  readonly #hidden = this.#gauge(
    "allreduce_hidden_ratio",
    "Share of the last step's all-reduce time for which the engine did not wait.",
  );
  readonly #loss = this.#gauge("loss", "Loss of the last step.");
  readonly #lr = this.#gauge("learning_rate", "Learning rate of the last step.");
  readonly #currentStep = this.#gauge("step", "Last finished step.");
  readonly #checkpoint = this.#gauge("checkpoint_step", "Step of the newest checkpoint.");
  readonly #checkpointSeconds = this.#gauge("checkpoint_seconds", "Time the checkpoint took.");
  readonly #checkpointBytes = this.#gauge("checkpoint_bytes", "Size of the newest checkpoint.");
  readonly #copySeconds = this.#gauge(
    "checkpoint_copy_seconds",
    "Time that training stood still for the newest checkpoint.",
  );
  readonly #checkpointFailures = this.#counter(
    "checkpoint_failures_total",
    "Checkpoints that could not be written.",
  );
  readonly #bound = this.#gauge("loss_bound", "ln(2N - 1): the loss when all pairs look alike.");
  readonly #atBound = this.#gauge("loss_at_bound", "1 while the loss sits at its bound.");
  readonly #knnTop1 = this.#gauge("knn_top1_percent", "Latest k-NN top-1 accuracy.", ["k"]);
  readonly #knnTop5 = this.#gauge("knn_top5_percent", "Latest k-NN top-5 accuracy.", ["k"]);
  readonly #probeTop1 = this.#gauge("probe_top1_percent", "Latest top-1 of the online probe.");
  readonly #probeTop5 = this.#gauge("probe_top5_percent", "Latest top-5 of the online probe.");
  readonly #monitorSeconds = this.#gauge("monitor_seconds", "Time the latest evaluation took.");
  #labels: Record<string, string> | undefined;
  /** Of the newest stage, also when it is over: its totals may not have been scraped yet. */
  #last: StageLabels | undefined;

  constructor(
    engine: string,
    device: string,
    refusals: Pick<Refusals<PeerRefusalReason>, "counts">,
    workDir: string,
  ) {
    collectDefaultMetrics({ register: this.registry });
    new Counter({
      name: "simclr_worker_refused_peers_total",
      help: "Connections and streams of peers that were not taken.",
      labelNames: ["reason"],
      registers: [this.registry],
      collect() {
        this.reset();
        for (const [reason, count] of refusals.counts) this.inc({ reason }, count);
      },
    });
    new Gauge({
      name: "simclr_worker_info",
      help: "Constant 1; what this worker is.",
      labelNames: ["version", "engine", "device"],
      registers: [this.registry],
    }).set({ version: SOFTWARE_VERSION, engine, device }, 1);
    addDiskMetrics(this.registry, { process: "worker", folder: workDir });
  }

  /** Series of one stage begin; those of the one before go, unless it is the same rank's. */
  begin(labels: StageLabels): void {
    this.end();
    const { experiment, stage, rank } = this.#last ?? {};
    const isSame = experiment === labels.experiment && stage === labels.stage;
    if (!isSame || rank !== labels.rank) for (const metric of this.#ofStage) metric.reset();
    this.#last = labels;
    this.#labels = { ...labels, rank: String(labels.rank) };
    // So that a first one is seen as a rise.
    for (const counter of [this.#checkpointFailures, this.#skipped]) counter.inc(this.#labels, 0);
  }

  end(): void {
    this.#labels = undefined;
    const ofLastStep = [this.#loss, this.#lr, this.#currentStep, this.#hidden];
    const ofQuality = [this.#bound, this.#atBound, this.#knnTop1, this.#knnTop5];
    const ofProbe = [this.#probeTop1, this.#probeTop5, this.#monitorSeconds];
    for (const metric of [...ofLastStep, ...ofQuality, ...ofProbe]) metric.reset();
  }

  step(report: StepReport): void {
    const labels = this.#labels;
    if (!labels) return;
    this.#step.observe(labels, report.stepSeconds);
    this.#own.observe(labels, ownSeconds(report));
    this.#wait.observe(labels, report.waitSeconds);
    for (const phase of PHASES) {
      this.#phase.observe({ ...labels, phase }, report.phaseSeconds[phase]);
    }
    if (report.syncNormSeconds) this.#syncNormSeconds.inc(labels, report.syncNormSeconds);
    this.#images.inc(labels, report.images);
    this.#loss.set(labels, report.loss);
    this.#lr.set(labels, report.lr);
    this.#currentStep.set(labels, report.step);
    if (report.allReduce) this.#hidden.set(labels, report.allReduce.hidden);
    if (!report.bound) return;
    this.#bound.set(labels, report.bound.value);
    this.#atBound.set(labels, report.bound.isReached ? 1 : 0);
  }

  monitored({ knn, probe }: MonitorFigures, seconds: number): void {
    const labels = this.#labels;
    if (!labels) return;
    for (const { neighbours: k, top1, top5 } of knn) {
      this.#knnTop1.set({ ...labels, k }, top1);
      this.#knnTop5.set({ ...labels, k }, top5);
    }
    if (probe) this.#probeTop1.set(labels, probe.top1);
    if (probe) this.#probeTop5.set(labels, probe.top5);
    this.#monitorSeconds.set(labels, seconds);
  }

  skippedImage(): void {
    if (this.#labels) this.#skipped.inc(this.#labels);
  }

  /** A checkpoint is durable. */
  checkpoint(event: Extract<SaveEvent, { readonly type: "checkpoint" }>): void {
    if (!this.#labels) return;
    this.#checkpoint.set(this.#labels, event.step);
    this.#checkpointSeconds.set(this.#labels, event.seconds);
    this.#checkpointBytes.set(this.#labels, event.bytes);
    this.#copySeconds.set(this.#labels, event.copySeconds);
  }

  checkpointFailed(): void {
    if (this.#labels) this.#checkpointFailures.inc(this.#labels);
  }

  /** @param growth what the group's counters grew by since the last call */
  reduced(growth: GroupStats): void {
    if (!this.#labels) return;
    this.#reducedBytes.inc(this.#labels, growth.allReduceBytes);
    this.#reduceSeconds.inc(this.#labels, growth.allReduceSeconds);
  }

  #counter(name: string, help: string): Counter {
    return this.#keep(new Counter({ ...this.#describe(name, help, []) }));
  }

  #gauge(name: string, help: string, labels: readonly string[] = []): Gauge {
    return this.#keep(new Gauge({ ...this.#describe(name, help, labels) }));
  }

  #histogram(name: string, help: string, labels: readonly string[]): Histogram {
    const description = this.#describe(name, help, labels);
    return this.#keep(new Histogram({ ...description, buckets: STEP_BUCKETS_S }));
  }

  #keep<Metric extends { reset(): void }>(metric: Metric): Metric {
    this.#ofStage.push(metric);
    return metric;
  }

  #describe(name: string, help: string, labels: readonly string[]) {
    return {
      name: `simclr_worker_${name}`,
      help,
      labelNames: ["experiment", "stage", "rank", ...labels],
      registers: [this.registry],
    };
  }
}
