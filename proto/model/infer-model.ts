/**
 * The architecture behind a set of tensors, from their names and shapes alone.
 *
 * Depth is the number of blocks, width what all layers agree on, the stem the size of its kernel.
 * What shapes do not tell (eps and momentum of the norms, zeroed residuals) is the recipe's
 * default. The result's plan is compared with the tensors, so nothing is inferred by half.
 */

import { FleetError } from "../errors.ts";
import type { ModelRecipe } from "../recipe.ts";
import { BASE_CHANNELS, planBackbone, RESNET_LAYERS } from "./backbone-plan.ts";
import { describeMismatch, listFirst, matchTensors } from "./match-tensors.ts";
import { planLinear, planPretrain, type TensorSpec } from "./model-plan.ts";

/** Shapes by canonical name: `backbone.*`, `neck.*`, `head.fc.*`. */
export type NamedShapes = ReadonlyMap<string, { readonly shape: readonly number[] }>;

export interface InferredModel {
  readonly model: ModelRecipe;
  /** Whether the projection neck is there, too. */
  readonly hasNeck: boolean;
  /** Of the linear classifier; undefined without one. */
  readonly classes: number | undefined;
}

const WIDTH_DIGITS_MAX = 6;

/**
 * Infers the model of `shapes`, which may have more tensors than the model asks for.
 *
 * @throws {FleetError} CHECKPOINT_INVALID saying why they are no ResNet of ours
 */
export function inferModel(shapes: NamedShapes): InferredModel {
  const depth = inferDepth(shapes);
  const stem = shapeOf(shapes, "backbone.conv1.weight", 4);
  if (stem[2] !== 7 && stem[2] !== 3) {
    throw invalid(`its stem has a ${stem[2]}x${stem[3]} kernel; 7x7 and 3x3 are known`);
  }
  const neck = inferNeck(shapes);
  const model: ModelRecipe = {
    depth,
    width: inferWidth(shapes, stem[0]!),
    stem: stem[2] === 7 ? "imagenet" : "cifar",
    zeroInitResidual: true,
    normEps: 1e-5,
    normMomentum: 0.1,
    neck: { out: neck?.out ?? 128 },
  };
  const { features } = planBackbone(model);
  const inferred = {
    model:
      neck === undefined || neck.hidden === features
        ? model
        : { ...model, neck: { hidden: neck.hidden, out: neck.out } },
    hasNeck: neck !== undefined,
    classes: shapes.get("head.fc.weight")?.shape[0],
  };
  const { missing, misshapen } = matchTensors(shapes, modelTensors(inferred));
  const problems = describeMismatch({ matched: [], missing, misshapen, unexpected: [] });
  if (problems.length === 0) return inferred;
  throw invalid(`it is not quite a ${describeArchitecture(model)}: ${listFirst(problems)}`);
}

/** What is there beside the backbone, whatever the backbone is. */
export function partsOf(shapes: NamedShapes): Omit<InferredModel, "model"> {
  return {
    hasNeck: shapes.has("neck.fc0.weight"),
    classes: shapes.get("head.fc.weight")?.shape[0],
  };
}

/** The tensors of an inferred model, in state_dict order: backbone, neck, head. */
export function modelTensors({ model, hasNeck, classes }: InferredModel): TensorSpec[] {
  const pretrain = planPretrain(model).tensors;
  const isHead = ({ name }: TensorSpec): boolean => name.startsWith("head.");
  return [
    ...(hasNeck ? pretrain : pretrain.filter(({ name }) => name.startsWith("backbone."))),
    ...(classes === undefined ? [] : planLinear(model, classes).tensors.filter(isHead)),
  ];
}

/** e.g. "ResNet-50", "ResNet-18 of width 0.25 with a cifar stem". */
export function describeArchitecture({ depth, width, stem }: ModelRecipe): string {
  const ofWidth = width === 1 ? "" : ` of width ${width}`;
  return `ResNet-${depth}${ofWidth}${stem === "cifar" ? " with a cifar stem" : ""}`;
}

function inferDepth(shapes: NamedShapes): ModelRecipe["depth"] {
  const counts = [1, 2, 3, 4].map((layer) => countBlocks(shapes, layer));
  const bottleneck = shapes.has("backbone.layer1.0.conv3.weight");
  for (const depth of [18, 34, 50, 101] as const) {
    const known = RESNET_LAYERS[depth];
    if (known.bottleneck === bottleneck && known.blocks.join() === counts.join()) return depth;
  }
  if (!shapes.has("backbone.conv1.weight")) {
    throw invalid("it has no backbone.conv1.weight, so it holds no ResNet that is known here");
  }
  const kind = bottleneck ? "bottleneck" : "basic";
  throw invalid(`its layers have ${counts.join(", ")} ${kind} blocks: no ResNet-18, 34, 50 or 101`);
}

/** Counts until a block is absent, so that a file cannot ask for more work than it has tensors. */
function countBlocks(shapes: NamedShapes, layer: number): number {
  let count = 0;
  while (shapes.has(`backbone.layer${layer}.${count}.conv1.weight`)) count += 1;
  return count;
}

/**
 * The roundest number that gives every layer its channels. A layer of `c` channels where width 1
 * has `b` allows [(c - 1/2) / b, (c + 1/2) / b).
 */
function inferWidth(shapes: NamedShapes, stemChannels: number): number {
  let low = 0;
  let high = Number.POSITIVE_INFINITY;
  const narrow = (channels: number, base: number): void => {
    low = Math.max(low, channels <= 1 ? 0 : (channels - 0.5) / base);
    high = Math.min(high, (channels + 0.5) / base);
  };
  narrow(stemChannels, BASE_CHANNELS);
  for (let layer = 0; layer < 4; layer++) {
    const name = `backbone.layer${layer + 1}.0.conv1.weight`;
    narrow(shapeOf(shapes, name, 4)[0]!, BASE_CHANNELS * 2 ** layer);
  }
  if (low >= high) throw invalid("its layers do not agree on one width");
  const middle = (low + high) / 2;
  const rounded = Array.from({ length: WIDTH_DIGITS_MAX + 1 }, (_, digits) =>
    Number(middle.toFixed(digits)),
  );
  const candidates = [...rounded.slice(0, 3), stemChannels / BASE_CHANNELS, ...rounded.slice(3)];
  return candidates.find((width) => width > 0 && low <= width && width < high) ?? middle;
}

function inferNeck(
  shapes: NamedShapes,
): { readonly hidden: number; readonly out: number } | undefined {
  if (!shapes.has("neck.fc0.weight") || !shapes.has("neck.fc1.weight")) return undefined;
  const [hidden] = shapeOf(shapes, "neck.fc0.weight", 2);
  const [out] = shapeOf(shapes, "neck.fc1.weight", 2);
  return { hidden: hidden!, out: out! };
}

/** @throws {FleetError} CHECKPOINT_INVALID when it is absent, empty or of another number of axes */
function shapeOf(shapes: NamedShapes, name: string, axes: number): readonly number[] {
  const shape = shapes.get(name)?.shape;
  if (!shape) throw invalid(`it has no ${name}`);
  if (shape.length === axes && shape.every((size) => size > 0)) return shape;
  throw invalid(`its ${name} is [${shape.join(", ")}]`);
}

function invalid(reason: string): FleetError {
  return new FleetError("CHECKPOINT_INVALID", reason);
}
