/**
 * SimCLR, ResNet-50, ImageNet-1k, global batch 4096, 800 epochs; then linear evaluation.
 *
 *   coordinator submit simclr_resnet50_16xb256-coslr-800e_in1k --watch
 *
 * Hardware as published: 16 A100-80G for pre-training. 250,400 steps; no published hours.
 * Expected: 69.2 % top-1 in linear evaluation (mmpretrain's model zoo).
 *
 * mmpretrain's file of this name forgets to set the batch and so trains with 32 images per GPU at a
 * rate meant for 256. The published weights were trained with 256, and so does this recipe.
 */

import type { RecipeInput } from "../recipe.ts";
import { imagenetData, larsPretraining, linearResnet50In1k, resnet50 } from "./imagenet.ts";

export const simclrResnet50B4096E800: RecipeInput = {
  name: "simclr_resnet50_16xb256-coslr-800e_in1k",
  description: "SimCLR on ImageNet-1k, global batch 4096, 800 epochs, then linear evaluation.",
  model: resnet50,
  data: imagenetData,
  pretrain: larsPretraining({ workers: 16, batchPerWorker: 256, epochs: 800, lr: 4.8 }),
  linear: linearResnet50In1k,
};
