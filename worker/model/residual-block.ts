/** Forward and backward of one residual block. */

import type { BlockPlan } from "../../proto/model/backbone-plan.ts";
import type { BatchNormGradients, Tensor } from "../engine/engine.ts";
import {
  type BackwardPass,
  backwardInput,
  backwardLayer,
  backwardNorm,
  backwardWeights,
  convNormLayer,
  type ForwardPass,
  forwardLayer,
  type LayerInput,
  type LayerTape,
} from "./normed-layer.ts";

export interface BlockTape {
  /** Owns the inputs of its layers, the first of which is the block's. */
  readonly body: readonly LayerTape[];
  /** Its norm is on the tape of the body's last layer. */
  readonly downsample?: LayerInput;
}

/**
 * Takes `input` over: it lives on in the tape. The shortcut's convolution waits for the body's
 * last, so that a gang exchanges the statistics of both at once.
 */
export function forwardBlock(
  pass: ForwardPass,
  { body, downsample }: BlockPlan,
  input: Tensor,
): { readonly y: Tensor; readonly tape: BlockTape } {
  const shortcut = downsample && { layer: convNormLayer(downsample), input };
  const added = shortcut ? { shortcut } : { residual: input };
  const tapes: LayerTape[] = [];
  let y = input;
  for (const [position, plan] of body.entries()) {
    const isLast = position === body.length - 1;
    const options = { relu: true, ...(isLast && added) };
    const next = forwardLayer(pass, convNormLayer(plan), y, options);
    tapes.push(next.tape);
    y = next.y;
  }
  return { y, tape: { body: tapes, ...(shortcut && { downsample: shortcut }) } };
}

/**
 * Uses the tape and `dy` up. The shortcut goes first, since its parameters stand after the body's:
 * gradients leave in the exact reverse of state_dict order.
 */
export function backwardBlock(pass: BackwardPass, tape: BlockTape, dy: Tensor): Tensor {
  const { engine } = pass;
  const last = tape.body.at(-1)!;
  const gradients = backwardNorm(pass, last, dy);
  engine.release(dy);
  const dShortcut = backwardShortcut(pass, tape, gradients);
  backwardWeights(pass, last, gradients);
  let dBody = backwardInput(pass, last, gradients);
  engine.release(last.input);
  for (const layer of tape.body.slice(0, -1).reverse()) {
    const dOutput = dBody;
    dBody = backwardLayer(pass, layer, dOutput);
    engine.release(dOutput, layer.input);
  }
  const dInput = engine.add(dBody, dShortcut);
  engine.release(dBody, dShortcut);
  return dInput;
}

/** Gradient with respect to the block's input, as far as it comes through the shortcut. */
function backwardShortcut(
  pass: BackwardPass,
  { downsample }: BlockTape,
  { dResidual, shortcut }: BatchNormGradients,
): Tensor {
  if (!downsample) return dResidual!;
  backwardWeights(pass, downsample, shortcut!);
  return backwardInput(pass, downsample, shortcut!);
}
