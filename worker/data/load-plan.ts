/**
 * What a worker loads, in which order: images to steps, as arithmetic.
 *
 * A *task* is one image of one step. Tasks are numbered through the whole stage, so that loader
 * threads share the work by counting, and a stage can begin at any step.
 */

import { FleetError } from "../../proto/errors.ts";
import type { AugmentationRecipe, LinearRecipe } from "../../proto/recipe.ts";
import { spreadEvenly } from "./index/image-list.ts";
import { epochIndices, shardIndices, stepsPerEpoch } from "./sampler.ts";

interface CommonPlan {
  /** Decides the order and every random view. */
  readonly seed: number;
  readonly rank: number;
  readonly worldSize: number;
  /** Images, not views, of one rank. */
  readonly batchPerWorker: number;
  /** Edge of the square views in pixels. */
  readonly imageSize: number;
  /** Whether a JPEG may be decoded at a part of its size. */
  readonly scaledDecoding: boolean;
  /** Different unreadable images that this worker puts up with. */
  readonly skipLimit: number;
}

interface TrainingPlan extends CommonPlan {
  /** Consecutive ranks from `rank` on that this worker holds: each has a batch in every step. */
  readonly ranks: number;
  readonly epochs: number;
  /** First step to load, counted from the beginning of the stage. */
  readonly startStep: number;
  readonly dropLast: boolean;
}

/** Two random views per image. */
interface PretrainPlan extends TrainingPlan {
  readonly kind: "pretrain";
  readonly augmentation: AugmentationRecipe;
}

/** One random crop per image. */
export interface LinearPlan extends TrainingPlan, Pick<LinearRecipe, "crop" | "flip"> {
  readonly kind: "linear";
}

/** The centre of every image, each image once a pass; ranks may have unequal shares. */
export interface ValidationPlan extends CommonPlan {
  readonly kind: "validation";
  readonly resizeEdge: number;
  /** Only so many images, spread evenly over the data set; all of them when absent. */
  readonly limit?: number;
  /** How often to go through the data set. A pass counts as an epoch. */
  readonly passes: number;
}

/** Structured-cloneable. */
export type LoadPlan = PretrainPlan | LinearPlan | ValidationPlan;

/** The steps of one worker. */
export interface Schedule {
  /** Images of this worker in one epoch. */
  readonly share: number;
  /** Images of this worker in one step, of all its ranks. */
  readonly batch: number;
  readonly stepsPerEpoch: number;
  /** Steps [startStep, endStep) are loaded. */
  readonly startStep: number;
  readonly endStep: number;
  /** Rows per image. */
  readonly views: 1 | 2;
}

/** Where an image goes. */
export interface Task {
  readonly step: number;
  readonly epoch: number;
  /** Number of the image within its batch. */
  readonly row: number;
  /** Number of the image within this worker's share of the epoch. */
  readonly position: number;
}

/**
 * Lays out the steps of a plan over a data set of `count` images.
 *
 * @throws {FleetError} DATA_INVALID when `dropLast` leaves no step at all
 */
export function scheduleOf(plan: LoadPlan, count: number): Schedule {
  if (plan.kind === "validation") {
    const batch = plan.batchPerWorker;
    const share = indicesOf(plan, count, 0).length;
    const steps = Math.ceil(share / batch);
    const endStep = steps * plan.passes;
    return { share, batch, stepsPerEpoch: steps, startStep: 0, endStep, views: 1 };
  }
  const steps = stepsPerEpoch({ ...plan, count });
  if (steps === 0) {
    const { worldSize, batchPerWorker } = plan;
    throw new FleetError(
      "DATA_INVALID",
      `${count} images make no full batch of ${worldSize} workers x ${batchPerWorker} images; ` +
        `provide ${worldSize * batchPerWorker}, lower batchPerWorker or set dropLast to false`,
    );
  }
  const batch = plan.ranks * plan.batchPerWorker;
  const padded = plan.ranks * Math.ceil(count / plan.worldSize);
  return {
    share: plan.dropLast ? steps * batch : padded,
    batch,
    stepsPerEpoch: steps,
    startStep: plan.startStep,
    endStep: steps * plan.epochs,
    views: plan.kind === "pretrain" ? 2 : 1,
  };
}

/** Images in the batch of a step. */
export function imagesAt(schedule: Schedule, step: number): number {
  const begin = (step % schedule.stepsPerEpoch) * schedule.batch;
  return Math.min(schedule.batch, schedule.share - begin);
}

/** Number of the first task of a step. */
export function firstTask(schedule: Schedule, step: number): number {
  if (schedule.share === 0) return 0;
  const epoch = Math.floor(step / schedule.stepsPerEpoch);
  return epoch * schedule.share + (step % schedule.stepsPerEpoch) * schedule.batch;
}

/** The inverse of {@link firstTask}; undefined past the end of the plan. */
export function taskAt(schedule: Schedule, task: number): Task | undefined {
  if (schedule.share === 0) return undefined;
  const epoch = Math.floor(task / schedule.share);
  const position = task % schedule.share;
  const step = epoch * schedule.stepsPerEpoch + Math.floor(position / schedule.batch);
  if (step >= schedule.endStep) return undefined;
  return { step, epoch, row: position % schedule.batch, position };
}

/** Numbers in the data set of this worker's images in one epoch, in order. */
export function indicesOf(plan: LoadPlan, count: number, epoch: number): Int32Array {
  if (plan.kind !== "validation") return epochIndices({ ...plan, count, epoch });
  const kept = spreadEvenly(count, plan.limit ?? count);
  return shardIndices(kept.length, plan.rank, plan.worldSize).map((place) => kept[place]!);
}
