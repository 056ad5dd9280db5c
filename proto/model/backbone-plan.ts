/**
 * ResNet as data: every convolution with its batch norm, by PyTorch name and in PyTorch order.
 *
 * Structure of mmpretrain's `ResNet` (style pytorch: a bottleneck strides in its 3x3 convolution)
 * and of torchvision's. The width factor scales the inner channels of every block; what a
 * bottleneck puts out is always four times that.
 */

import type { ModelRecipe } from "../recipe.ts";

/** A convolution without bias and the batch norm behind it. */
export interface ConvNormPlan {
  /** e.g. `backbone.layer1.0.conv1`; its weight is [outputs, inputs, kernel, kernel]. */
  readonly convolution: string;
  /** e.g. `backbone.layer1.0.bn1` */
  readonly norm: string;
  readonly inputs: number;
  readonly outputs: number;
  readonly kernel: number;
  readonly stride: number;
  readonly padding: number;
}

export interface BlockPlan {
  /** In order; a ReLU follows each but the last, which gets the shortcut added first. */
  readonly body: readonly ConvNormPlan[];
  /** Present where the shortcut changes shape. */
  readonly downsample?: ConvNormPlan;
}

export interface BackbonePlan {
  readonly stem: ConvNormPlan;
  /** A 3x3 max-pool with stride 2 follows the stem. */
  readonly hasPool: boolean;
  readonly blocks: readonly BlockPlan[];
  /** Channels that the last block puts out. */
  readonly features: number;
}

/** Blocks of each of the four layers, by depth. */
export const RESNET_LAYERS: Readonly<
  Record<ModelRecipe["depth"], { readonly bottleneck: boolean; readonly blocks: readonly number[] }>
> = {
  18: { bottleneck: false, blocks: [2, 2, 2, 2] },
  34: { bottleneck: false, blocks: [3, 4, 6, 3] },
  50: { bottleneck: true, blocks: [3, 4, 6, 3] },
  101: { bottleneck: true, blocks: [3, 4, 23, 3] },
};

export const BASE_CHANNELS = 64;
const BOTTLENECK_EXPANSION = 4;

export function planBackbone(model: ModelRecipe): BackbonePlan {
  const { bottleneck, blocks: counts } = RESNET_LAYERS[model.depth];
  const channels = (base: number): number => Math.max(1, Math.round(base * model.width));

  const stemOutputs = channels(BASE_CHANNELS);
  const blocks: BlockPlan[] = [];
  let inputs = stemOutputs;
  for (const [layer, count] of counts.entries()) {
    const inner = channels(BASE_CHANNELS * 2 ** layer);
    for (let index = 0; index < count; index++) {
      const name = `backbone.layer${layer + 1}.${index}`;
      const stride = layer > 0 && index === 0 ? 2 : 1;
      const block = (bottleneck ? planBottleneck : planBasic)({ name, inputs, inner, stride });
      blocks.push(block);
      inputs = block.body.at(-1)!.outputs;
    }
  }
  return {
    stem: planStem(model.stem, stemOutputs),
    hasPool: model.stem === "imagenet",
    blocks,
    features: inputs,
  };
}

/** Every convolution with its batch norm, in state_dict order. */
export function convNorms({ stem, blocks }: BackbonePlan): ConvNormPlan[] {
  return [
    stem,
    ...blocks.flatMap(({ body, downsample }) => (downsample ? [...body, downsample] : body)),
  ];
}

interface BlockShape {
  readonly name: string;
  readonly inputs: number;
  readonly inner: number;
  readonly stride: number;
}

function planStem(stem: ModelRecipe["stem"], outputs: number): ConvNormPlan {
  const [kernel, stride] = stem === "imagenet" ? [7, 2] : [3, 1];
  return {
    convolution: "backbone.conv1",
    norm: "backbone.bn1",
    inputs: 3,
    outputs,
    kernel,
    stride,
    padding: (kernel - 1) / 2,
  };
}

function planBasic({ name, inputs, inner, stride }: BlockShape): BlockPlan {
  return {
    body: [
      planBody(name, 1, { inputs, outputs: inner, kernel: 3, stride }),
      planBody(name, 2, { inputs: inner, outputs: inner, kernel: 3, stride: 1 }),
    ],
    ...planShortcut(name, inputs, inner, stride),
  };
}

function planBottleneck({ name, inputs, inner, stride }: BlockShape): BlockPlan {
  const outputs = inner * BOTTLENECK_EXPANSION;
  return {
    body: [
      planBody(name, 1, { inputs, outputs: inner, kernel: 1, stride: 1 }),
      planBody(name, 2, { inputs: inner, outputs: inner, kernel: 3, stride }),
      planBody(name, 3, { inputs: inner, outputs, kernel: 1, stride: 1 }),
    ],
    ...planShortcut(name, inputs, outputs, stride),
  };
}

function planBody(
  block: string,
  position: number,
  shape: Pick<ConvNormPlan, "inputs" | "outputs" | "kernel" | "stride">,
): ConvNormPlan {
  return {
    convolution: `${block}.conv${position}`,
    norm: `${block}.bn${position}`,
    ...shape,
    padding: (shape.kernel - 1) / 2,
  };
}

function planShortcut(
  block: string,
  inputs: number,
  outputs: number,
  stride: number,
): Pick<BlockPlan, "downsample"> {
  if (stride === 1 && inputs === outputs) return {};
  const downsample: ConvNormPlan = {
    convolution: `${block}.downsample.0`,
    norm: `${block}.downsample.1`,
    inputs,
    outputs,
    kernel: 1,
    stride,
    padding: 0,
  };
  return { downsample };
}
