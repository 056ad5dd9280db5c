/** What is trained under fire: small, but with everything that a real run has. */

import type { RecipeInput } from "../../proto/recipe.ts";
import { tinyRecipe } from "../support/cluster.ts";

export interface WorkSize {
  /** World size of both stages. */
  readonly ranks: number;
  /** Of pre-training. */
  readonly epochs: number;
}

/** Images a class, in two classes; the last batch of an epoch is smaller and is padded. */
export const IMAGES = { train: 61, val: 8 };
const BATCH = 4;

/** Batch norm over all ranks, a probe, k-NN, and a linear stage on top. */
export function chaosRecipe(root: string, { ranks, epochs }: WorkSize): RecipeInput {
  const base = tinyRecipe(root, {});
  // Rarely: a lost rank's state is to come from its peers.
  const checkpoint = { everyEpochs: 5 };
  return {
    ...base,
    name: "chaos",
    pretrain: {
      ...base.pretrain,
      workers: ranks,
      batchPerWorker: BATCH,
      epochs,
      syncBatchNorm: true,
      checkpoint,
      monitor: { everyEpochs: 5 },
    },
    linear: {
      ...base.linear,
      workers: ranks,
      batchPerWorker: BATCH,
      epochs: Math.max(1, Math.ceil(epochs / 4)),
      checkpoint,
    },
    elastic: { waitSeconds: 5, checksumEverySteps: 10 },
  };
}
