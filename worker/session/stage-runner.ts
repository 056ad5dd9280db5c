/**
 * One assignment from its arrival to the worker being free again: join the group, open the data,
 * agree on where to start, let the engine thread train, take everything down.
 */

import path from "node:path";
import { FleetError } from "../../proto/errors.ts";
import type { Abort, Assignment } from "../../proto/gen/coordinator.ts";
import type { Log } from "../../proto/log.ts";
import { parseRecipe, type Recipe, type StageName } from "../../proto/recipe.ts";
import { checkReach, hostOf, type Transport } from "../../proto/transport.ts";
import { findStage } from "../../proto/wire-stages.ts";
import { findCheckpoint, newestCheckpointStep } from "../checkpoint/checkpoint-store.ts";
import { bridgeGroup, type GroupBridge } from "../collective/bridge.ts";
import { joinGroup, type PeerGroup } from "../collective/peer-group.ts";
import type { PeerServer } from "../collective/peer-server.ts";
import type { TraceConfig } from "../config.ts";
import { type Dataset, openDataset } from "../data/dataset.ts";
import type { SplitName } from "../data/invalid-data.ts";
import type { LoadPlan } from "../data/load-plan.ts";
import { type Loaders, startLoaders } from "../data/loaders.ts";
import { ranksPerWorker } from "../train/held-ranks.ts";
import { checkpointStore } from "../train/stage-context.ts";
import {
  CONTROL_WORDS,
  type MonitorJob,
  STOP_AT_STEP,
  STOP_NOW,
  type StageJob,
} from "../train/stage-job.ts";
import { agreeOnStart, type Start } from "./agree-on-start.ts";
import type { CheckpointHost, StageCheckpoints } from "./checkpoint-host.ts";
import type { EngineHost, StageEvent, StageOutcome } from "./engine-host.ts";
import { monitorPlan, type Place, trainPlan, validationPlan } from "./load-plans.ts";
import { logIndexing } from "./log-indexing.ts";
import { lostRanksOf } from "./lost-ranks.ts";
import type { MonitorData } from "./monitor-data.ts";
import { MonitorLoaders } from "./monitor-loaders.ts";
import { openStageData, type StageData } from "./stage-data.ts";
import { StageTrace } from "./stage-trace.ts";
import { waitTogether } from "./wait-together.ts";

export interface StageRunnerOptions {
  readonly engine: Pick<EngineHost, "run" | "stop" | "replicaStep">;
  readonly checkpoints: CheckpointHost;
  readonly server: PeerServer;
  readonly workDir: string;
  readonly loaderThreads: number;
  readonly joinToken: string;
  readonly transport: Transport;
  readonly collectiveTimeoutMs: number | undefined;
  readonly logSamples: boolean;
  readonly trace: TraceConfig | undefined;
  /** Of this assignment: each line names it. */
  readonly log: Log;
}

export interface StageListener {
  readonly onGroup: (group: PeerGroup) => void;
  readonly onEvent: (event: StageEvent) => void;
  readonly onSkipped: (info: { readonly path: string; readonly reason: string }) => void;
}

/** Below the work folder: indexes of data that lies where nothing can be written. */
const INDEX_FOLDER = ".data-index";

export class StageRunner {
  readonly assignment: Assignment;
  readonly recipe: Recipe;
  readonly stage: StageName;
  readonly #options: StageRunnerOptions;
  readonly #log: Log;
  readonly #abort = new AbortController();
  readonly #openLoaders: Loaders[] = [];
  #group: PeerGroup | undefined;
  /** Why the gang has ended early. */
  #broken: FleetError | undefined;
  #bridge: GroupBridge | undefined;
  #monitorLoaders: MonitorLoaders | undefined;
  #checkpoints: StageCheckpoints | undefined;
  #keepsCheckpoint = false;
  #job: StageJob | undefined;
  #trace: StageTrace | undefined;
  /** Of the last validation, on rank 0: images by true and predicted class. */
  #predictions: Int32Array | undefined;

  /** @throws {FleetError} RECIPE_INVALID, USAGE when the assignment makes no sense */
  constructor(assignment: Assignment, options: StageRunnerOptions) {
    this.assignment = assignment;
    this.#options = options;
    this.recipe = parseRecipe(parseJson(assignment.recipeJson));
    this.stage = stageName(assignment);
    const { rank, peers } = assignment;
    if (rank >= peers.length) {
      throw new FleetError("USAGE", `assigned rank ${rank} of a gang of ${peers.length}`);
    }
    ranksPerWorker(this.recipe, this.stage, peers.length);
    if (!/^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(assignment.experimentId)) {
      throw new FleetError("USAGE", `experiment id "${assignment.experimentId}" is no file name`);
    }
    this.#log = options.log;
  }

  /**
   * Ends the stage early, with GENERATION_ABORTED: at the end of the step under way, together with
   * all ranks, or at once. Before the first step it is at once in either case.
   *
   * @param how.keepCheckpoint whether {@link run} waits until the last step is durable, or is not
   */
  stop(
    because: string,
    { atStepBoundary, keepCheckpoint }: Pick<Abort, "atStepBoundary" | "keepCheckpoint">,
  ): void {
    this.#keepsCheckpoint ||= keepCheckpoint;
    if (atStepBoundary && this.#job) {
      this.#options.engine.stop(this.#job, STOP_AT_STEP);
      return;
    }
    const error = new FleetError("GENERATION_ABORTED", because);
    this.#abort.abort(error);
    if (this.#job) this.#options.engine.stop(this.#job, STOP_NOW);
    this.#group?.abort(error);
    for (const loaders of this.#openLoaders) void loaders.close();
    void this.#monitorLoaders?.close();
  }

  /** Resolves when the worker is free again; never rejects for an operating error. */
  async run(listener: StageListener): Promise<StageOutcome> {
    let outcome: StageOutcome;
    try {
      outcome = await this.#run(listener);
    } catch (thrown) {
      const error = FleetError.from(thrown);
      outcome = {
        type: "stopped",
        step: this.#job?.startStep ?? 0,
        checkpointStep: undefined,
        error,
      };
    }
    if (this.#keepsCheckpoint) await this.#checkpoints?.idle();
    if (outcome.type === "stopped") {
      const error = this.#rootOf(outcome.error);
      outcome = { ...outcome, checkpointStep: this.#checkpoints?.kept.step, error };
    }
    await this.#takeDown(outcome);
    if (outcome.type === "finished") await this.#leaveConfusion();
    return outcome;
  }

  /** A stage that was told to stop may not have noticed that its gang had lost somebody before. */
  #rootOf(error: FleetError): FleetError {
    const broken = this.#broken;
    if (error.code !== "GENERATION_ABORTED" || lostRanksOf(error).length > 0) return error;
    return broken && lostRanksOf(broken).length > 0 ? broken : error;
  }

  async #run(listener: StageListener): Promise<StageOutcome> {
    const { engine, checkpoints, server, joinToken, transport } = this.#options;
    const { collectiveTimeoutMs, loaderThreads } = this.#options;
    const { experimentId, generation, rank, peers, formationTimeoutMs } = this.assignment;
    for (const { address } of peers) checkReach(transport, "peer", hostOf(address));
    const group = await joinGroup({
      server,
      experimentId,
      generation,
      rank,
      peers,
      wire: this.recipe.collective.wire,
      formationTimeoutMs,
      joinToken,
      transport,
      opTimeoutMs: collectiveTimeoutMs,
      signal: this.#abort.signal,
    });
    this.#group = group;
    void group.failed.then((error) => {
      this.#broken = error;
    });
    listener.onGroup(group);
    const hear = (event: StageEvent): void => this.#hear(event, listener);
    const open = (split: SplitName): Promise<Dataset> => this.#openSplit(split);
    const data = await waitTogether(group, openStageData(this.recipe, this.stage, open));
    const start = await this.#agreeOnStart(group, data);
    this.#throwIfAborted();
    const { train, validation } = data;
    const onSkipped = onceEach(listener.onSkipped);
    const load = (dataset: Dataset, plan: LoadPlan): Promise<Loaders> =>
      startLoaders({ dataset, plan, threads: loaderThreads, onSkipped });
    const shared = async (dataset: Dataset, plan: LoadPlan) => {
      const loaders = await load(dataset, plan);
      this.#openLoaders.push(loaders);
      return loaders.shared;
    };
    const place = { rank, worldSize: peers.length, startStep: start.step };
    const control = new Int32Array(new SharedArrayBuffer(CONTROL_WORDS * 4));
    this.#bridge = peers.length > 1 ? await this.#bridgeGroup(group) : undefined;
    const folder = this.#stageFolder(this.stage);
    const { keep } = this.recipe[this.stage].checkpoint;
    const store = checkpointStore(folder);
    if (rank === 0) this.#checkpoints = checkpoints.open({ store, keep }, hear);
    this.#trace = this.#openTrace();
    this.#job = {
      experimentId,
      stage: this.stage,
      generation,
      rank,
      worldSize: peers.length,
      recipe: this.recipe,
      folder,
      logSamples: this.#options.logSamples,
      traceSteps: this.#options.trace?.steps ?? 0,
      group: this.#bridge?.link,
      train: await shared(train, trainPlan(this.recipe, this.stage, place)),
      trainImages: train.count,
      validation: validation
        ? await shared(validation, validationPlan(this.recipe, place))
        : undefined,
      validationImages: validation?.count ?? 0,
      classes: train.classes,
      monitor: start.isMonitored ? this.#openMonitor(data, { place, control, load }) : undefined,
      checkpoints: this.#checkpoints?.link,
      source: start.source,
      startStep: start.step,
      backboneFrom: this.#findBackbone(start),
      control,
    };
    this.#throwIfAborted();
    return engine.run(this.#job, hear);
  }

  #hear(event: StageEvent, listener: StageListener): void {
    if (event.type === "predictions") this.#predictions = event.counts;
    if (event.type === "trace") this.#trace?.spans(event);
    if (event.type === "checkpoint") this.#trace?.checkpoint(event);
    listener.onEvent(event);
  }

  #bridgeGroup(group: PeerGroup): Promise<GroupBridge> {
    return bridgeGroup(group, (operation) => this.#trace?.served(operation));
  }

  #openTrace(): StageTrace | undefined {
    const { trace, log } = this.#options;
    if (!trace) return undefined;
    const { experimentId, generation, rank } = this.assignment;
    const { stage } = this;
    return new StageTrace({ ...trace, experimentId, stage, generation, rank, log });
  }

  /** For people to look at: that it cannot be drawn or written does not spoil the stage. */
  async #leaveConfusion(): Promise<void> {
    if (!this.#predictions || !this.#job) return;
    const { folder, classes } = this.#job;
    try {
      // Charts take a moment and some memory to load; most workers never draw any.
      const { writeConfusion } = await import("../look/write-confusion.ts");
      await writeConfusion(folder, { recipe: this.recipe.name, classes }, this.#predictions);
    } catch (thrown) {
      const because = FleetError.from(thrown).message;
      this.#log.warn({ event: "no confusion matrix is left", folder, because });
    }
  }

  /** @throws {FleetError} DATA_INVALID; whatever the stage was ended early with */
  #openSplit(split: SplitName): Promise<Dataset> {
    return openDataset(this.recipe.data, split, {
      indexFolder: path.join(path.resolve(this.#options.workDir), INDEX_FOLDER),
      signal: this.#abort.signal,
      ...logIndexing(this.#log, split),
    });
  }

  #openMonitor(
    { train, monitor }: StageData,
    parts: {
      readonly place: Place;
      readonly control: StageJob["control"];
      readonly load: (dataset: Dataset, plan: LoadPlan) => Promise<Loaders>;
    },
  ): MonitorJob | undefined {
    if (monitor?.type !== "usable") return undefined;
    const { knn, valImages } = this.recipe.pretrain.monitor;
    const { classes, val } = monitor;
    const datasets = { train, val };
    const splits = {
      train: { plan: monitorPlan(this.recipe, parts.place, knn.trainImages), count: train.count },
      val: { plan: monitorPlan(this.recipe, parts.place, valImages), count: val.count },
    };
    const loaders = new MonitorLoaders(parts.control, (split) =>
      parts.load(datasets[split], splits[split].plan),
    );
    this.#monitorLoaders = loaders;
    return { port: loaders.port, classes, splits };
  }

  async #agreeOnStart(group: PeerGroup, data: StageData): Promise<Start> {
    const { experimentId } = this.assignment;
    const { stage } = this;
    const start = await agreeOnStart(group, {
      data,
      replicaStep: this.#options.engine.replicaStep({ experimentId, stage }),
      newestCheckpointStep: () => newestCheckpointStep(checkpointStore(this.#stageFolder(stage))),
      findCheckpoint: () => this.#newestCheckpoint(stage),
    });
    if (data.monitor && !start.isMonitored) this.#sayWhyNotMonitored(data.monitor);
    if (start.step > 0) this.#log.info({ event: "resuming", step: start.step, from: start.source });
    return start;
  }

  #sayWhyNotMonitored(monitor: MonitorData): void {
    const isFirst = this.assignment.rank === 0;
    const because = monitor.type === "none" ? monitor.because : "the ranks' data differ";
    if (isFirst) this.#log.info({ event: "no k-NN and no online probe in this stage", because });
  }

  /**
   * Where rank 0 reads the backbone that a linear stage begins with.
   *
   * @throws {FleetError} CHECKPOINT_INVALID when there is none to evaluate
   */
  #findBackbone({ source }: Start): string | undefined {
    const isFresh = this.stage === "linear" && source.type === "initial";
    const isWanted = isFresh && this.recipe.linear.init !== "random";
    return isWanted && this.assignment.rank === 0 ? this.#backbonePath() : undefined;
  }

  #backbonePath(): string {
    const { init } = this.recipe.linear;
    if (init !== "pretrain") return path.resolve(init);
    const pretrained = this.#newestCheckpoint("pretrain");
    if (pretrained) return pretrained.folder;
    const where = checkpointStore(this.#stageFolder("pretrain"));
    throw new FleetError(
      "CHECKPOINT_INVALID",
      `rank 0 finds no usable pre-training checkpoint in ${where}; ` +
        "all workers need the same --work-dir, on storage that they share",
    );
  }

  #newestCheckpoint(stage: StageName) {
    return findCheckpoint(checkpointStore(this.#stageFolder(stage)), (folder, because) =>
      this.#log.warn({ event: "damaged checkpoint passed over", folder, because }),
    );
  }

  #stageFolder(stage: StageName): string {
    return path.join(path.resolve(this.#options.workDir), this.assignment.experimentId, stage);
  }

  #throwIfAborted(): void {
    if (this.#abort.signal.aborted) throw this.#abort.signal.reason;
  }

  async #takeDown(outcome: StageOutcome): Promise<void> {
    this.#bridge?.close();
    this.#checkpoints?.close();
    if (outcome.type === "stopped") this.#group?.abort(outcome.error);
    const loaders = [...this.#openLoaders, this.#monitorLoaders];
    await Promise.all(loaders.map((each) => each?.close()));
    await this.#group?.close();
    await this.#trace?.close();
  }
}

/** A monitor reads images that the training reads too, and reads them again and again. */
function onceEach(listener: StageListener["onSkipped"]): StageListener["onSkipped"] {
  const named = new Set<string>();
  return (skip) => {
    if (named.has(skip.path)) return;
    named.add(skip.path);
    listener(skip);
  };
}

function stageName({ stage }: Assignment): StageName {
  const name = findStage(stage);
  if (name) return name;
  throw new FleetError("USAGE", `assigned an unknown stage: ${stage}`);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (thrown) {
    throw new FleetError("RECIPE_INVALID", "the assigned recipe is not JSON", {}, thrown);
  }
}
