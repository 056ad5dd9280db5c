/**
 * SimCLR, ResNet-18 with the CIFAR stem, CIFAR-10, global batch 256, 100 epochs; then linear
 * evaluation. After the paper's appendix B.9 and the authors' CIFAR-10 command: temperature 0.5,
 * half-strength colour distortion, no blur, LARS at 1.0 per 256 images, rate lowered every step.
 *
 *   coordinator submit simclr_resnet18_2xb128-coslr-100e_cifar10 --watch
 *
 * Hardware as published: 1 GPU. The authors' README expects about 91 % top-1 after 1000 epochs at
 * batch 512; no figure is published for this shorter run.
 */

import type { RecipeInput } from "../recipe.ts";

export const simclrResnet18Cifar10: RecipeInput = {
  name: "simclr_resnet18_2xb128-coslr-100e_cifar10",
  description:
    "SimCLR on CIFAR-10, ResNet-18, global batch 256, 100 epochs, then linear evaluation.",
  model: { depth: 18, stem: "cifar", zeroInitResidual: true, neck: { hidden: 512, out: 128 } },
  data: {
    root: "data/cifar10",
    train: { path: "train.tar" },
    val: { path: "test.tar" },
    imageSize: 32,
    mean: [125.307, 122.961, 113.8575],
    std: [51.5865, 50.847, 51.255],
  },
  pretrain: {
    workers: 2,
    batchPerWorker: 128,
    epochs: 100,
    syncBatchNorm: true,
    temperature: 0.5,
    gradientScale: "exact",
    optimizer: {
      type: "lars",
      lr: 1.0,
      momentum: 0.9,
      weightDecay: 1e-4,
      excludeNormAndBias: true,
    },
    schedule: { warmupEpochs: 10, decay: "cosine", decayPer: "step" },
    augmentation: {
      crop: { scale: [0.08, 1], ratio: [3 / 4, 4 / 3] },
      flip: 0.5,
      jitter: { probability: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 },
      grayscale: 0.2,
      blur: { probability: 0 },
    },
    checkpoint: { everyEpochs: 10, keep: 3 },
    monitor: { everyEpochs: 5 },
  },
  linear: {
    name: "resnet18_2xb256-linear-coslr-100e_cifar10",
    workers: 2,
    batchPerWorker: 256,
    epochs: 100,
    classes: 10,
    optimizer: { type: "sgd", lr: 0.2, momentum: 0.9, weightDecay: 0 },
    schedule: { warmupEpochs: 0, decay: "cosine", decayPer: "epoch" },
    validation: { resizeEdge: 32, batchPerWorker: 256, everyEpochs: 1 },
    checkpoint: { everyEpochs: 10, keep: 3 },
  },
};
