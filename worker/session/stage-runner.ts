/**
 * One assignment from its arrival to the worker being free again: join the group, open the data,
 * agree on where to start, let the engine thread train, take everything down.
 */

import path from "node:path";
import { FleetError } from "../../proto/errors.ts";
import type { Assignment } from "../../proto/gen/coordinator.ts";
import type { Log } from "../../proto/log.ts";
import { parseRecipe, type Recipe, type StageName } from "../../proto/recipe.ts";
import { checkReach, hostOf, type Transport } from "../../proto/transport.ts";
import { findCheckpoint } from "../checkpoint/checkpoint-store.ts";
import { bridgeGroup, type GroupBridge } from "../collective/bridge.ts";
import { joinGroup, type PeerGroup } from "../collective/peer-group.ts";
import type { PeerServer } from "../collective/peer-server.ts";
import { type Dataset, openDataset } from "../data/dataset.ts";
import type { SplitName } from "../data/invalid-data.ts";
import type { LoadPlan } from "../data/load-plan.ts";
import { type Loaders, startLoaders } from "../data/loaders.ts";
import { checkpointStore } from "../train/stage-context.ts";
import { CONTROL_WORDS, type MonitorJob, type StageJob } from "../train/stage-job.ts";
import { joinCount, splitCount } from "../train/sync-state.ts";
import type { EngineHost, StageEvent, StageOutcome } from "./engine-host.ts";
import { monitorPlan, type Place, trainPlan, validationPlan } from "./load-plans.ts";
import { logIndexing } from "./log-indexing.ts";
import type { MonitorData } from "./monitor-data.ts";
import { MonitorLoaders } from "./monitor-loaders.ts";
import { monitorFacts, openStageData, type StageData } from "./stage-data.ts";
import { waitTogether } from "./wait-together.ts";

export interface StageRunnerOptions {
  readonly engine: EngineHost;
  readonly server: PeerServer;
  readonly workDir: string;
  readonly loaderThreads: number;
  readonly joinToken: string;
  readonly transport: Transport;
  readonly collectiveTimeoutMs: number | undefined;
  readonly log: Log;
}

export interface StageListener {
  readonly onGroup: (group: PeerGroup) => void;
  readonly onEvent: (event: StageEvent) => void;
  readonly onSkipped: (info: { readonly path: string; readonly reason: string }) => void;
}

/** Below the work folder: indexes of data that lies where nothing can be written. */
const INDEX_FOLDER = ".data-index";

/** Where a stage starts, the same on all ranks. */
interface Start {
  readonly step: number;
  /** Whether every rank has found the same for the monitor. */
  readonly isMonitored: boolean;
  readonly resumeFrom: string | undefined;
  readonly backboneFrom: string | undefined;
}

export class StageRunner {
  readonly assignment: Assignment;
  readonly recipe: Recipe;
  readonly stage: StageName;
  readonly #options: StageRunnerOptions;
  readonly #log: Log;
  readonly #abort = new AbortController();
  readonly #openLoaders: Loaders[] = [];
  #group: PeerGroup | undefined;
  #bridge: GroupBridge | undefined;
  #monitorLoaders: MonitorLoaders | undefined;
  #job: StageJob | undefined;
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
    if (!/^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(assignment.experimentId)) {
      throw new FleetError("USAGE", `experiment id "${assignment.experimentId}" is no file name`);
    }
    this.#log = options.log.child({
      experiment: assignment.experimentId,
      generation: assignment.generation,
      rank,
    });
  }

  /** Ends the stage early: at the next step boundary, with GENERATION_ABORTED. */
  stop(because: string): void {
    const error = new FleetError("GENERATION_ABORTED", because);
    this.#abort.abort(error);
    if (this.#job) this.#options.engine.stop(this.#job);
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
    await this.#takeDown(outcome);
    if (outcome.type === "finished") await this.#leaveConfusion();
    return outcome;
  }

  async #run(listener: StageListener): Promise<StageOutcome> {
    const { engine, server, joinToken, transport } = this.#options;
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
    listener.onGroup(group);
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
    this.#bridge = peers.length > 1 ? await bridgeGroup(group) : undefined;
    this.#job = {
      experimentId,
      stage: this.stage,
      rank,
      worldSize: peers.length,
      recipe: this.recipe,
      folder: this.#stageFolder(this.stage),
      group: this.#bridge?.link,
      train: await shared(train, trainPlan(this.recipe, this.stage, place)),
      trainImages: train.count,
      validation: validation
        ? await shared(validation, validationPlan(this.recipe, place))
        : undefined,
      validationImages: validation?.count ?? 0,
      classes: train.classes,
      monitor: start.isMonitored ? this.#openMonitor(data, { place, control, load }) : undefined,
      resumeFrom: start.resumeFrom,
      startStep: start.step,
      backboneFrom: start.backboneFrom,
      control,
    };
    this.#throwIfAborted();
    return engine.run(this.#job, (event) => {
      if (event.type === "predictions") this.#predictions = event.counts;
      listener.onEvent(event);
    });
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
      const reason = FleetError.from(thrown).message;
      this.#log.warn({ folder, reason }, "no confusion matrix is left");
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

  /**
   * Rank 0 looks for checkpoints; every rank learns the step and checks that its data is the same.
   */
  async #agreeOnStart(group: PeerGroup, data: StageData): Promise<Start> {
    const start = group.rank === 0 ? this.#findStart() : undefined;
    const images = [data.train.count, data.validation?.count ?? 0];
    const facts = [start?.step ?? 0, ...images, ...monitorFacts(data)];
    const all = await group.allGather(Float32Array.from(facts.flatMap((n) => [...splitCount(n)])));
    const factOf = (rank: number, fact: number): number =>
      joinCount(all, facts.length * rank + fact);
    for (let rank = 1; rank < group.worldSize; rank++) {
      for (const [fact, split] of [
        [1, "training"],
        [2, "validation"],
      ] as const) {
        const own = factOf(rank, fact);
        const first = factOf(0, fact);
        if (own === first) continue;
        throw new FleetError(
          "DATA_INVALID",
          `rank ${rank} finds ${own} ${split} images, rank 0 finds ${first}: ` +
            "all workers must see the same data set",
        );
      }
    }
    const ranks = Array.from({ length: group.worldSize }, (_, rank) => rank);
    // The last two facts are the monitor's, and differing ones only leave the monitor out.
    const isMonitored = ranks.every((rank) =>
      [3, 4].every((fact) => factOf(rank, fact) > 0 && factOf(rank, fact) === factOf(0, fact)),
    );
    if (data.monitor && !isMonitored) this.#sayWhyNotMonitored(data.monitor);
    return {
      step: factOf(0, 0),
      isMonitored,
      resumeFrom: start?.resumeFrom,
      backboneFrom: start?.backboneFrom,
    };
  }

  #sayWhyNotMonitored(monitor: MonitorData): void {
    const isFirst = this.assignment.rank === 0;
    const because = monitor.type === "none" ? monitor.because : "the ranks' data differ";
    if (isFirst) this.#log.info({ because }, "no k-NN and no online probe in this stage");
  }

  /** @throws {FleetError} CHECKPOINT_INVALID when the linear stage has no backbone to evaluate */
  #findStart(): Omit<Start, "isMonitored"> {
    const resume = this.#newestCheckpoint(this.stage);
    if (resume) this.#log.info({ step: resume.manifest.step, folder: resume.folder }, "resuming");
    const isFresh = this.stage === "linear" && this.recipe.linear.init !== "random" && !resume;
    return {
      step: resume?.manifest.step ?? 0,
      resumeFrom: resume?.folder,
      backboneFrom: isFresh ? this.#backbonePath() : undefined,
    };
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
    return findCheckpoint(checkpointStore(this.#stageFolder(stage)), (folder, reason) =>
      this.#log.warn({ folder, reason }, "damaged checkpoint passed over"),
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
    if (outcome.type === "stopped") this.#group?.abort(outcome.error);
    const loaders = [...this.#openLoaders, this.#monitorLoaders];
    await Promise.all(loaders.map((each) => each?.close()));
    await this.#group?.close();
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
  if (stage === "STAGE_PRETRAIN") return "pretrain";
  if (stage === "STAGE_LINEAR") return "linear";
  throw new FleetError("USAGE", `assigned an unknown stage: ${stage}`);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (thrown) {
    throw new FleetError("RECIPE_INVALID", "the assigned recipe is not JSON", {}, thrown);
  }
}
