/**
 * What passes between the main thread and the engine thread.
 *
 * The engine thread blocks while it trains, so only the shared `control` words can reach it then;
 * everything that it says goes out by `postMessage` at once.
 */

import type { PlainError } from "../../proto/errors.ts";
import type { Recipe, StageName } from "../../proto/recipe.ts";
import type { GroupLink } from "../collective/bridge.ts";
import type { SharedBatches } from "../data/loaders.ts";

/** Everything the engine thread needs to run its rank of one stage. */
export interface StageJob {
  readonly experimentId: string;
  readonly stage: StageName;
  readonly rank: number;
  readonly worldSize: number;
  readonly recipe: Recipe;
  /** Folder of this experiment's stage: checkpoints, scalars.jsonl, result.json. */
  readonly folder: string;
  /** Absent when the worker is alone. */
  readonly group: GroupLink | undefined;
  readonly train: SharedBatches;
  readonly trainImages: number;
  /** Linear stage only. */
  readonly validation: SharedBatches | undefined;
  readonly validationImages: number;
  readonly classes: readonly string[];
  /** Checkpoint to go on from; read by rank 0 and sent to the others. */
  readonly resumeFrom: string | undefined;
  readonly startStep: number;
  /** File or checkpoint with the linear stage's backbone; random when absent. Rank 0 only. */
  readonly backboneFrom: string | undefined;
  /** Int32 words: {@link CONTROL_STOP}. */
  readonly control: Int32Array<SharedArrayBuffer>;
}

/** Index of the word that the main thread sets to 1 to stop the stage at its next step boundary. */
export const CONTROL_STOP = 0;
export const CONTROL_WORDS = 1;

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

/** One finished training step. */
export interface StepReport {
  readonly step: number;
  readonly stepsTotal: number;
  readonly epoch: number;
  readonly epochsTotal: number;
  readonly epochEnded: boolean;
  readonly loss: number;
  readonly lr: number;
  /** Source images of this rank in this step. */
  readonly images: number;
  readonly stepSeconds: number;
  readonly phaseSeconds: PhaseSeconds;
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
  | { readonly type: "checkpoint"; readonly step: number; readonly seconds: number }
  | { readonly type: "notice"; readonly message: string }
  | { readonly type: "warning"; readonly message: string }
  | { readonly type: "finished"; readonly step: number; readonly result: StageResult | undefined }
  | {
      readonly type: "stopped";
      readonly step: number;
      readonly checkpointStep: number | undefined;
      readonly error: PlainError;
    };

/** Contents of result.json. Percent for accuracies, seconds for times. */
export interface StageResult {
  readonly stage: StageName;
  readonly recipe: string;
  readonly world_size: number;
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
}

export type MainThreadMessage = { readonly type: "run"; readonly job: StageJob };
