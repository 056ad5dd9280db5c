/**
 * A small run for a first look: ResNet-18 at a quarter of its width on 32-pixel images.
 *
 *   coordinator demo
 *
 * Hardware: two CPU cores; minutes.
 */

import type { RecipeInput } from "../recipe.ts";

export const demo: RecipeInput = {
  name: "demo",
  description: "A few minutes of SimCLR on generated images, on 2 workers without a GPU.",
  model: { depth: 18, width: 0.25, stem: "cifar", neck: { out: 64 } },
  data: {
    root: "data/demo",
    train: { path: "train" },
    val: { path: "val" },
    imageSize: 32,
    mean: [127.5, 127.5, 127.5],
    std: [64, 64, 64],
  },
  pretrain: {
    workers: 2,
    batchPerWorker: 64,
    epochs: 10,
    temperature: 0.5,
    gradientScale: "exact",
    optimizer: { type: "sgd", lr: 0.1, weightDecay: 1e-4 },
    schedule: { warmupEpochs: 1, decayPer: "step" },
    augmentation: { blur: { probability: 0 } },
    checkpoint: { everyEpochs: 5, keep: 2 },
  },
  linear: {
    name: "demo-linear",
    workers: 2,
    batchPerWorker: 64,
    epochs: 10,
    classes: 8,
    optimizer: { type: "sgd", lr: 0.2 },
    validation: { resizeEdge: 32, batchPerWorker: 64 },
    checkpoint: { everyEpochs: 5, keep: 1 },
  },
};
