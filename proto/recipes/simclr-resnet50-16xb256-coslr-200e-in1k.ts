/**
 * SimCLR, ResNet-50, ImageNet-1k, global batch 4096, 200 epochs; then linear evaluation.
 *
 *   coordinator submit simclr_resnet50_16xb256-coslr-200e_in1k --watch
 *
 * Hardware as published: 16 A100-80G for pre-training. 62,600 steps; no published hours for this
 * setting (the paper names 1.5 h per 100 epochs on 128 TPU v3 cores).
 * Expected: 66.9 % top-1 in linear evaluation (mmpretrain's model zoo).
 */

import type { RecipeInput } from "../recipe.ts";
import { imagenetData, larsPretraining, linearResnet50In1k, resnet50 } from "./imagenet.ts";

export const simclrResnet50B4096E200: RecipeInput = {
  name: "simclr_resnet50_16xb256-coslr-200e_in1k",
  description: "SimCLR on ImageNet-1k, global batch 4096, 200 epochs, then linear evaluation.",
  model: resnet50,
  data: imagenetData,
  pretrain: larsPretraining({ workers: 16, batchPerWorker: 256, epochs: 200, lr: 4.8 }),
  linear: linearResnet50In1k,
};
