/** What the engine hands out: tensors, and what a forward leaves for its backward. */

import type { BatchNormSaved, PoolSaved, Tensor } from "../engine.ts";
import type { Block } from "./arena.ts";
import type { Layout } from "./layout.ts";

/** Owns one share of a block. */
export class Stored implements Tensor {
  readonly shape: readonly number[];
  readonly layout: Layout;
  readonly block: Block;
  /** Copies in other layouts, made on demand; outdated when the contents change. */
  readonly copies = new Map<Layout, Block>();
  /** What a convolution with these weights and a norm after it reads. */
  folded: Folded | undefined;
  /** Grows whenever the contents change. */
  version = 0;

  constructor(shape: readonly number[], layout: Layout, block: Block) {
    this.shape = [...shape];
    this.layout = layout;
    this.block = block;
  }
}

/** Weights times the scale of a frozen norm, and its shift as bias. */
export interface Folded {
  /** The tensors that it was computed from, and their versions at that time. */
  readonly from: readonly (readonly [tensor: Stored, version: number])[];
  readonly eps: number;
  readonly layout: Layout;
  readonly weights: Block;
  readonly bias: Block;
}

/** The rectifier of a norm, as its backward needs it. */
export type Rectifier = "none" | "without residual" | "with residual";

/** What the backward reads of one input of a norm. */
export interface SavedInput {
  /** As kernels read it. */
  readonly x: Stored;
  /** [4, channels] with padding: scale, shift, mean, 1 / standard deviation. */
  readonly vectors: Stored;
}

export class SavedNorm implements BatchNormSaved {
  readonly tensors: readonly Stored[];
  /** The norm's own, and the shortcut's. */
  readonly inputs: readonly [SavedInput, ...SavedInput[]];
  /** Output, where the rectifier's decisions are read from it. */
  readonly y: Stored | undefined;
  readonly rectifier: Rectifier;
  readonly hasResidual: boolean;
  /** Values per channel that the statistics are of. */
  readonly count: number;

  constructor(saved: Omit<SavedNorm, "tensors" | "shape">) {
    this.inputs = saved.inputs;
    this.y = saved.y;
    this.rectifier = saved.rectifier;
    this.hasResidual = saved.hasResidual;
    this.count = saved.count;
    const ofInputs = saved.inputs.flatMap(({ x, vectors }) => [x, vectors]);
    this.tensors = [...ofInputs, ...(saved.y ? [saved.y] : [])];
  }

  get shape(): readonly number[] {
    return this.inputs[0].x.shape;
  }
}

export class SavedPool implements PoolSaved {
  readonly tensors: readonly Stored[];
  readonly workspace: Stored;
  readonly xShape: readonly number[];

  constructor(workspace: Stored, xShape: readonly number[]) {
    this.tensors = [workspace];
    this.workspace = workspace;
    this.xShape = xShape;
  }
}
