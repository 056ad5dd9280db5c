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
import { checkClasses, type Dataset, openDataset } from "../data/dataset.ts";
import type { SplitName } from "../data/invalid-data.ts";
import { type Loaders, startLoaders } from "../data/loaders.ts";
import { checkpointStore } from "../train/stage-context.ts";
import { CONTROL_WORDS, type StageJob } from "../train/stage-job.ts";
import { joinCount, splitCount } from "../train/sync-state.ts";
import type { EngineHost, StageEvent, StageOutcome } from "./engine-host.ts";
import { trainPlan, validationPlan } from "./load-plans.ts";
import { logIndexing } from "./log-indexing.ts";
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

interface StageData {
  readonly train: Dataset;
  readonly validation: Dataset | undefined;
}

/** Where a stage starts, the same on all ranks. */
interface Start {
  readonly step: number;
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
  #job: StageJob | undefined;

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
    const { train, validation } = await waitTogether(group, this.#openData());
    const start = await this.#agreeOnStart(group, train.count, validation?.count ?? 0);
    this.#throwIfAborted();
    const shared = async (dataset: Dataset, plan: ReturnType<typeof trainPlan>) => {
      const onSkipped = listener.onSkipped;
      const loaders = await startLoaders({ dataset, plan, threads: loaderThreads, onSkipped });
      this.#openLoaders.push(loaders);
      return loaders.shared;
    };
    const place = { rank, worldSize: peers.length, startStep: start.step };
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
      resumeFrom: start.resumeFrom,
      startStep: start.step,
      backboneFrom: start.backboneFrom,
      control: new Int32Array(new SharedArrayBuffer(CONTROL_WORDS * 4)),
    };
    this.#throwIfAborted();
    return engine.run(this.#job, listener.onEvent);
  }

  /** @throws {FleetError} DATA_INVALID; whatever the stage was ended early with */
  async #openData(): Promise<StageData> {
    const { data, linear } = this.recipe;
    const open = (split: SplitName): Promise<Dataset> =>
      openDataset(data, split, {
        indexFolder: path.join(path.resolve(this.#options.workDir), INDEX_FOLDER),
        signal: this.#abort.signal,
        ...logIndexing(this.#log, split),
      });
    const train = await open("train");
    const validation = this.stage === "linear" ? await open("val") : undefined;
    if (validation) checkClasses(train, validation, linear.classes);
    return { train, validation };
  }

  /**
   * Rank 0 looks for checkpoints; every rank learns the step and checks that its data is the same.
   */
  async #agreeOnStart(group: PeerGroup, train: number, validation: number): Promise<Start> {
    const start = group.rank === 0 ? this.#findStart() : undefined;
    const facts = [start?.step ?? 0, train, validation].flatMap((n) => [...splitCount(n)]);
    const all = await group.allGather(Float32Array.from(facts));
    for (let rank = 1; rank < group.worldSize; rank++) {
      for (const [fact, split] of [
        [1, "training"],
        [2, "validation"],
      ] as const) {
        const own = joinCount(all, 3 * rank + fact);
        const first = joinCount(all, fact);
        if (own === first) continue;
        throw new FleetError(
          "DATA_INVALID",
          `rank ${rank} finds ${own} ${split} images, rank 0 finds ${first}: ` +
            "all workers must see the same data set",
        );
      }
    }
    return {
      step: joinCount(all, 0),
      resumeFrom: start?.resumeFrom,
      backboneFrom: start?.backboneFrom,
    };
  }

  /** @throws {FleetError} CHECKPOINT_INVALID when the linear stage has no backbone to evaluate */
  #findStart(): Start {
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
    await Promise.all(this.#openLoaders.map((loaders) => loaders.close()));
    await this.#group?.close();
  }
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
