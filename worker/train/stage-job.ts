/**
 * What passes between the main thread and the engine thread.
 *
 * The engine thread blocks while it trains, so only the shared `control` words can reach it then;
 * everything that it says goes out by `postMessage` at once.
 */

import type { MessagePort } from "node:worker_threads";
import type { PlainError } from "../../proto/errors.ts";
import type { Recipe, StageName } from "../../proto/recipe.ts";
import type { CheckpointLink } from "../checkpoint/checkpoint-link.ts";
import type { GroupLink } from "../collective/bridge.ts";
import type { ValidationPlan } from "../data/load-plan.ts";
import type { SharedBatches } from "../data/loaders.ts";
import type { TraceSpan } from "../trace/tracer.ts";
import type { Accuracy } from "./hits.ts";

/** Where the state comes from that a stage goes on with, the same on all ranks. */
export type StateSource =
  /** Freshly drawn, by each rank for itself. */
  | { readonly type: "initial" }
  /** Read by `root`, taken over by the others. `folder` is the root's. */
  | { readonly type: "checkpoint"; readonly folder: string; readonly root: number }
  /**
   * Kept in memory since an earlier generation; taken over by the others from `root`, which is
   * undefined when every rank has it.
   */
  | { readonly type: "replica"; readonly root: number | undefined };

/** Everything the engine thread needs to run its rank of one stage. */
export interface StageJob {
  readonly experimentId: string;
  readonly stage: StageName;
  /** Of the gang: who writes into the stage's folder must be of the highest. */
  readonly generation: number;
  /** Of this worker. */
  readonly rank: number;
  /** Workers: as many as the recipe's stage has ranks, or a divisor of that. */
  readonly worldSize: number;
  readonly recipe: Recipe;
  /** Folder of this experiment's stage: checkpoints, scalars.jsonl, result.json. */
  readonly folder: string;
  /** Whether the images of each step are written down, too. */
  readonly logSamples: boolean;
  /** How many steps are traced, from the first of this assignment on. */
  readonly traceSteps: number;
  /** Absent when the worker is alone. */
  readonly group: GroupLink | undefined;
  readonly train: SharedBatches;
  readonly trainImages: number;
  /** Linear stage only. */
  readonly validation: SharedBatches | undefined;
  readonly validationImages: number;
  readonly classes: readonly string[];
  /** Pre-training on data with labels only, unless the recipe does without. */
  readonly monitor: MonitorJob | undefined;
  /** How rank 0 has its checkpoints written; undefined on the others. */
  readonly checkpoints: CheckpointLink | undefined;
  readonly source: StateSource;
  readonly startStep: number;
  /** File or checkpoint with the linear stage's backbone; random when absent. Rank 0 only. */
  readonly backboneFrom: string | undefined;
  /** Int32 words: {@link CONTROL_STOP}, {@link CONTROL_ANSWERS}. */
  readonly control: Int32Array<SharedArrayBuffer>;
}

export type MonitorSplit = "train" | "val";

/** What the engine thread needs to judge the features while they are trained. */
export interface MonitorJob {
  /** Takes {@link MonitorRequest}s, gives {@link MonitorAnswer}s. Moves to the engine thread. */
  readonly port: MessagePort;
  readonly classes: number;
  /** This rank's share of each split, and how many images the split has before the plan's limit. */
  readonly splits: Readonly<
    Record<MonitorSplit, { readonly plan: ValidationPlan; readonly count: number }>
  >;
}

/**
 * "open" begins a pass over a split and is answered; "close" ends it. The loaders' threads live in
 * between only.
 */
export type MonitorRequest =
  | { readonly type: "open"; readonly split: MonitorSplit }
  | { readonly type: "close" };

export type MonitorAnswer =
  | { readonly type: "opened"; readonly batches: SharedBatches }
  | { readonly type: "failed"; readonly error: PlainError };

/** Index of the word that the main thread stops the stage with: 0 while it shall run, or below. */
export const CONTROL_STOP = 0;
/** To finish the step under way with the other ranks, and to stop together with them. */
export const STOP_AT_STEP = 1;
/** To give up whatever is under way. */
export const STOP_NOW = 2;
/** Index of the word that counts the {@link MonitorAnswer}s; a stop wakes its waiters, too. */
export const CONTROL_ANSWERS = 1;
export const CONTROL_WORDS = 2;

/** Where the time of a step went, in seconds. */
export const PHASES = ["data", "forward", "loss", "backward", "reduce", "update"] as const;
export type Phase = (typeof PHASES)[number];
export type PhaseSeconds = Readonly<Record<Phase, number>>;

/** How a step's gradient all-reduces ran beside the rest of it. */
export interface AllReduceTime {
  /** Time during which at least one of them was under way. */
  readonly seconds: number;
  /** Share of it, 0 to 1, during which the engine did not wait for them. */
  readonly hidden: number;
}

/** Where the contrastive loss lies in relation to ln(2N - 1). */
export interface LossBound {
  readonly value: number;
  /** Whether the loss has come to it, or not left it, by the rule of worker/loss/bound-watch.ts. */
  readonly isReached: boolean;
}

/** The online probe on a training batch of the gang, before its update. */
export interface ProbeStep {
  readonly loss: number;
  /** Percent of the views. */
  readonly top1: number;
}

/** What a step has come to, the same on all ranks. */
export interface TrainedStep {
  readonly loss: number;
  /** Pre-training only. */
  readonly bound?: LossBound;
  readonly probe?: ProbeStep;
}

/** Quality of the features, over the gang. */
export interface MonitorFigures {
  readonly step: number;
  /** By number of neighbours, as the recipe has them. */
  readonly knn: readonly (Accuracy & { readonly neighbours: number })[];
  readonly probe: Accuracy | undefined;
}

/** One finished training step. */
export interface StepReport extends TrainedStep {
  readonly step: number;
  readonly stepsTotal: number;
  readonly epoch: number;
  readonly epochsTotal: number;
  readonly epochEnded: boolean;
  readonly lr: number;
  /** Source images of this worker in this step. */
  readonly images: number;
  readonly stepSeconds: number;
  /** Part of the step in which this rank waited for others; what is left is its own. */
  readonly waitSeconds: number;
  readonly phaseSeconds: PhaseSeconds;
  /**
   * Part of forward and backward in which batch statistics were exchanged. Undefined when each rank
   * normalises its own batch, or is alone.
   */
  readonly syncNormSeconds: number | undefined;
  /** Undefined when nothing was reduced: with one worker. */
  readonly allReduce: AllReduceTime | undefined;
}

export type EngineThreadMessage =
  | {
      readonly type: "ready";
      readonly name: string;
      readonly device: string;
      readonly notes: readonly string[];
    }
  | { readonly type: "unavailable"; readonly error: PlainError }
  | { readonly type: "running" }
  | { readonly type: "step"; readonly report: StepReport }
  | { readonly type: "validated"; readonly top1: number; readonly top5: number }
  | { readonly type: "monitored"; readonly figures: MonitorFigures; readonly seconds: number }
  /** Of the last validation, over the gang: images by true and predicted class. Rank 0 only. */
  | { readonly type: "predictions"; readonly counts: Int32Array }
  /** Of the engine thread, in a step that is traced. */
  | {
      readonly type: "trace";
      readonly spans: readonly TraceSpan[];
      /** Whether no step after this one is traced. */
      readonly isLast: boolean;
    }
  /** Why log lines cannot be written; undefined once they can be again. */
  | { readonly type: "log"; readonly problem: string | undefined }
  | { readonly type: "notice"; readonly message: string }
  | { readonly type: "warning"; readonly message: string }
  | { readonly type: "finished"; readonly step: number; readonly result: StageResult | undefined }
  | {
      readonly type: "stopped";
      readonly step: number;
      /** Step of the replica that this thread has kept of the stage. */
      readonly replicaStep: number | undefined;
      readonly error: PlainError;
    };

/** Contents of result.json. Percent for accuracies, seconds for times. */
export interface StageResult {
  readonly stage: StageName;
  readonly recipe: string;
  /** Workers in the end. */
  readonly world_size: number;
  /** Of the recipe. */
  readonly ranks: number;
  readonly steps: number;
  readonly epochs: number;
  readonly images_per_s: number;
  readonly wall_s: number;
  readonly loss_first: number;
  readonly loss_last: number;
  readonly top1?: number;
  readonly top5?: number;
  readonly validation_images?: number;
  readonly init?: string;
  readonly checkpoint?: string;
  readonly [figure: `knn/${string}` | `probe/${string}`]: number;
}

export type MainThreadMessage =
  | { readonly type: "run"; readonly job: StageJob }
  /** Nobody will come back to the replica that is kept. */
  | { readonly type: "forget" };
