/** Forward and backward of one residual block. */

import type { BlockPlan } from "../../proto/model/backbone-plan.ts";
import type { Tensor } from "../engine/engine.ts";
import {
  type BackwardPass,
  backwardInput,
  backwardLayer,
  backwardNorm,
  backwardWeights,
  convNormLayer,
  type ForwardPass,
  forwardLayer,
  type LayerTape,
} from "./normed-layer.ts";

export interface BlockTape {
  /** Owns the inputs of its layers, the first of which is the block's. */
  readonly body: readonly LayerTape[];
  readonly downsample?: LayerTape;
}

/** Takes `input` over: it lives on in the tape. */
export function forwardBlock(
  pass: ForwardPass,
  { body, downsample }: BlockPlan,
  input: Tensor,
): { readonly y: Tensor; readonly tape: BlockTape } {
  const shortcut =
    downsample && forwardLayer(pass, convNormLayer(downsample), input, { relu: false });
  const tapes: LayerTape[] = [];
  let y = input;
  for (const [position, plan] of body.entries()) {
    const isLast = position === body.length - 1;
    const residual = isLast ? { residual: shortcut?.y ?? input } : {};
    const next = forwardLayer(pass, convNormLayer(plan), y, { relu: true, ...residual });
    tapes.push(next.tape);
    y = next.y;
  }
  if (shortcut) pass.engine.release(shortcut.y);
  return { y, tape: { body: tapes, ...(shortcut && { downsample: shortcut.tape }) } };
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
  let dShortcut = gradients.dResidual!;
  const replace = (old: Tensor, next: Tensor): Tensor => {
    engine.release(old);
    return next;
  };
  if (tape.downsample) {
    dShortcut = replace(dShortcut, backwardLayer(pass, tape.downsample, dShortcut));
  }

  backwardWeights(pass, last, gradients);
  let dBody = backwardInput(pass, last, gradients);
  engine.release(last.input);
  for (const layer of tape.body.slice(0, -1).reverse()) {
    dBody = replace(dBody, backwardLayer(pass, layer, dBody));
    engine.release(layer.input);
  }
  const dInput = engine.add(dBody, dShortcut);
  engine.release(dBody, dShortcut);
  return dInput;
}
