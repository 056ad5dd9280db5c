/**
 * SimCLR, ResNet-50, ImageNet-1k, global batch 256, 200 epochs; then linear evaluation.
 *
 *   coordinator submit simclr_resnet50_8xb32-coslr-200e_in1k --watch
 *
 * Hardware as published: 8 V100. 1,001,000 steps; no published hours.
 * Expected: 62.7 % top-1 in linear evaluation (mmselfsup's model zoo).
 */

import type { RecipeInput } from "../recipe.ts";
import { imagenetData, larsPretraining, linearResnet50In1k, resnet50 } from "./imagenet.ts";

export const simclrResnet50B256E200: RecipeInput = {
  name: "simclr_resnet50_8xb32-coslr-200e_in1k",
  description: "SimCLR on ImageNet-1k, global batch 256, 200 epochs, then linear evaluation.",
  model: resnet50,
  data: imagenetData,
  pretrain: larsPretraining({ workers: 8, batchPerWorker: 32, epochs: 200, lr: 0.3 }),
  linear: linearResnet50In1k,
};
