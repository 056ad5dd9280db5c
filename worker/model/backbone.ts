/** Training forward and backward of the ResNet, from images to pooled features. */

import type { BackbonePlan } from "../../proto/model/backbone-plan.ts";
import type { PoolSaved, Tensor } from "../engine/engine.ts";
import {
  type BackwardPass,
  backwardNorm,
  backwardWeights,
  convNormLayer,
  type ForwardPass,
  forwardLayer,
  type LayerTape,
} from "./normed-layer.ts";
import { type BlockTape, backwardBlock, forwardBlock } from "./residual-block.ts";

export interface BackboneTape {
  readonly stem: LayerTape;
  readonly pool?: PoolSaved;
  readonly blocks: readonly BlockTape[];
  /** Shape of the last feature map. */
  readonly mapShape: readonly number[];
}

/** Images [N, 3, H, W] to features [N, F]. The images are only borrowed, until the backward. */
export function forwardBackbone(
  pass: ForwardPass,
  plan: BackbonePlan,
  images: Tensor,
): { readonly features: Tensor; readonly tape: BackboneTape } {
  const { engine } = pass;
  const stem = forwardLayer(pass, convNormLayer(plan.stem), images, { relu: true });
  const pool = plan.hasPool ? engine.maxPool(stem.y) : undefined;
  if (pool) engine.release(stem.y);

  let y = pool?.y ?? stem.y;
  const blocks: BlockTape[] = [];
  for (const block of plan.blocks) {
    const next = forwardBlock(pass, block, y);
    blocks.push(next.tape);
    y = next.y;
  }
  const features = engine.globalAveragePool(y);
  engine.release(y);
  const tape = { stem: stem.tape, ...(pool && { pool: pool.saved }), blocks, mapShape: y.shape };
  return { features, tape };
}

/** Uses the tape and `dFeatures` up. */
export function backwardBackbone(pass: BackwardPass, tape: BackboneTape, dFeatures: Tensor): void {
  const { engine } = pass;
  let dy = engine.globalAveragePoolBackward(dFeatures, tape.mapShape);
  engine.release(dFeatures);
  for (const block of tape.blocks.toReversed()) dy = backwardBlock(pass, block, dy);
  if (tape.pool) {
    const dStem = engine.maxPoolBackward(dy, tape.pool);
    engine.release(dy, ...tape.pool.tensors);
    dy = dStem;
  }
  const gradients = backwardNorm(pass, tape.stem, dy);
  engine.release(dy);
  backwardWeights(pass, tape.stem, gradients);
  engine.release(gradients.dx);
}
