/**
 * How large a worker's pod is, from what its stage trains. Memory is an estimate on the safe side:
 * the parts that grow with the recipe were compared with the peak of real runs (ResNet-50 at 8
 * images of 224 pixels, and ResNet-18 at 128 of 32), and a quarter is added.
 */

import { describeModel } from "../../proto/model/describe-model.ts";
import type { Recipe, StageName } from "../../proto/recipe.ts";
import type { Device } from "./object-names.ts";

export interface WorkerSize {
  /** `--threads`: those that compute. */
  readonly threads: number;
  /** `--loader-threads`: those that decode and augment. */
  readonly loaderThreads: number;
  readonly memoryBytes: number;
  /** Batches and gradients: what a worker's threads share, as much may lie in /dev/shm. */
  readonly sharedBytes: number;
  /** Of the newest checkpoint on its way to storage. */
  readonly checkpointBytes: number;
}

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const FLOAT_BYTES = 4;
/** As many batches lie in a worker's ring. */
const BATCHES = 3;
/** Images below it are small: two threads keep up, and they are decoded once. */
const PHOTOGRAPH_PIXELS = 128;

/** Node.js, threads, and the index of a large data set; TensorFlow and CUDA beside that. */
const RUNTIME_BYTES: Readonly<Record<Device, number>> = { gpu: 6 * GIB, cpu: GIB };
/** A large photograph and its views. */
const LOADER_BYTES = 128 * MIB;
/** Weights, momentum, gradients, the replica's two, and two checkpoints of two each. */
const PARAMETER_COPIES = 9;
/** A convolution's output and its norm's are kept for backward. */
const KEPT_MAPS = 2;
/** The frozen backbone of the linear stage keeps few maps at a time. */
const PASSING_MAPS = 0.5;

export function workerSize(recipe: Recipe, stage: StageName, device: Device): WorkerSize {
  const { data, model, linear } = recipe;
  const { imageSize } = data;
  const { parameters, activations } = describeModel(model, stage, {
    imageSize,
    classes: linear.classes,
  });
  const views = recipe[stage].batchPerWorker * (stage === "pretrain" ? 2 : 1);
  const maps = stage === "pretrain" ? KEPT_MAPS : PASSING_MAPS;
  const onHost = device === "gpu" ? 0 : views * activations * maps * FLOAT_BYTES;
  const threads = threadsOf(device, imageSize);
  const ring = BATCHES * views * 3 * imageSize ** 2;
  const weights = parameters * FLOAT_BYTES;
  const bytes =
    RUNTIME_BYTES[device] +
    threads.loaderThreads * LOADER_BYTES +
    ring +
    PARAMETER_COPIES * weights +
    onHost;
  return {
    ...threads,
    memoryBytes: Math.ceil((1.25 * bytes) / GIB) * GIB,
    sharedBytes: Math.ceil((ring + weights) / (64 * MIB)) * 64 * MIB,
    checkpointBytes: 2 * weights,
  };
}

function threadsOf(
  device: Device,
  imageSize: number,
): Pick<WorkerSize, "threads" | "loaderThreads"> {
  const isLarge = imageSize >= PHOTOGRAPH_PIXELS;
  if (device === "gpu") return { threads: 2, loaderThreads: isLarge ? 10 : 2 };
  return isLarge ? { threads: 8, loaderThreads: 2 } : { threads: 1, loaderThreads: 1 };
}
