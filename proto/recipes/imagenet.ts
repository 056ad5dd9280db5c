/** What the ImageNet-1k recipes share: data set, model, and the linear evaluation. */

import type { RecipeInput } from "../recipe.ts";

/** ILSVRC-2012 in the usual layout; the lists in `meta/` are used when they are there. */
export const imagenetData: RecipeInput["data"] = {
  root: "data/imagenet",
  train: { path: "train", annotations: "meta/train.txt" },
  val: { path: "val", annotations: "meta/val.txt" },
  imageSize: 224,
};

/** ResNet-50 v1.5 with the 2048-2048-128 neck: 27,968,832 parameters. */
export const resnet50: RecipeInput["model"] = {
  depth: 50,
  stem: "imagenet",
  zeroInitResidual: true,
  neck: { hidden: 2048, out: 128 },
};

interface LarsPretraining {
  readonly workers: number;
  readonly batchPerWorker: number;
  readonly epochs: number;
  readonly lr: number;
}

/**
 * mmpretrain's SimCLR pre-training, where the three published settings differ only in these four
 * numbers: LARS without decay or adaptation for batch-norm, 10 epochs of warm-up, cosine per epoch.
 */
export function larsPretraining(setting: LarsPretraining): RecipeInput["pretrain"] {
  return {
    workers: setting.workers,
    batchPerWorker: setting.batchPerWorker,
    epochs: setting.epochs,
    syncBatchNorm: true,
    temperature: 0.1,
    gradientScale: "mmpretrain",
    optimizer: {
      type: "lars",
      lr: setting.lr,
      momentum: 0.9,
      weightDecay: 1e-6,
      excludeNormAndBias: true,
    },
    schedule: { warmupEpochs: 10, warmupStartFactor: 1e-4, decay: "cosine", decayPer: "epoch" },
    checkpoint: { everyEpochs: 10, keep: 3 },
  };
}

/**
 * resnet50_8xb512-linear-coslr-90e_in1k: a linear classifier on the frozen backbone. LARS adapts
 * the classifier's bias too: mmpretrain's configuration excludes nothing here.
 */
export const linearResnet50In1k: RecipeInput["linear"] = {
  name: "resnet50_8xb512-linear-coslr-90e_in1k",
  workers: 8,
  batchPerWorker: 512,
  epochs: 90,
  classes: 1000,
  init: "pretrain",
  optimizer: {
    type: "lars",
    lr: 1.6,
    momentum: 0.9,
    weightDecay: 0,
    excludeNormAndBias: false,
  },
  schedule: { warmupEpochs: 0, decay: "cosine", decayPer: "epoch" },
  validation: { resizeEdge: 256, batchPerWorker: 32, everyEpochs: 1 },
  checkpoint: { everyEpochs: 10, keep: 3 },
};
