/**
 * The models that have a name: what the built-in recipes train, and mmpretrain's published linear
 * models. The published facts are those of mmpretrain's configs/simclr/metafile.yml; sizes are
 * computed (`describeModel`) and equal that file's.
 */

import { describeModel } from "../../proto/model/describe-model.ts";
import { parseRecipe, type Recipe, type StageName } from "../../proto/recipe.ts";
import { findRecipe } from "../../proto/recipes/registry.ts";

/** mmpretrain's names of what a model is for; "null" stands for none. */
export type ModelTask = "Image Classification" | "null";

export interface ModelCard {
  readonly name: string;
  /** A pre-trained backbone has no task of its own. */
  readonly task: ModelTask;
  readonly recipe: Recipe;
  readonly stage: StageName;
  /** Scalars in weights and biases. */
  readonly parameters: number;
  /** For one image, by mmpretrain's count. */
  readonly flops: number;
  /** Published accuracy on ImageNet-1k in percent. */
  readonly top1: number | undefined;
  /** Where the published weights are. */
  readonly weights: string | undefined;
}

interface Entry {
  readonly recipe: string;
  readonly stage: StageName;
  /** The recipe's name for the stage when absent. */
  readonly name?: string;
  readonly top1?: number;
  /** Below {@link PUBLISHED}. */
  readonly file?: string;
}

const PUBLISHED = "https://download.openmmlab.com/mmselfsup/1.x/simclr/";
const B4096_E200 = "simclr_resnet50_16xb256-coslr-200e_in1k";
const B4096_E800 = "simclr_resnet50_16xb256-coslr-800e_in1k";
const B256_E200 = "simclr_resnet50_8xb32-coslr-200e_in1k";
const LINEAR = "resnet50_linear-8xb512-coslr-90e_in1k";

const ENTRIES: readonly Entry[] = [
  {
    recipe: B4096_E200,
    stage: "pretrain",
    file: `${B4096_E200}/${B4096_E200}_20220825-4d9cce50.pth`,
  },
  {
    recipe: B4096_E800,
    stage: "pretrain",
    file: `${B4096_E800}/${B4096_E800}_20220825-85fcc4de.pth`,
  },
  {
    recipe: B256_E200,
    stage: "pretrain",
    file: `${B256_E200}/${B256_E200}_20220825-15f807a4.pth`,
  },
  {
    recipe: B4096_E200,
    stage: "linear",
    name: "resnet50_simclr-200e-pre_8xb512-linear-coslr-90e_in1k",
    top1: 66.9,
    file: `${B4096_E200}/${LINEAR}/${LINEAR}_20220825-f12c0457.pth`,
  },
  {
    recipe: B4096_E800,
    stage: "linear",
    name: "resnet50_simclr-800e-pre_8xb512-linear-coslr-90e_in1k",
    top1: 69.2,
    file: `${B4096_E800}/${LINEAR}/${LINEAR}_20220825-b80ae1e5.pth`,
  },
  { recipe: "simclr_resnet18_2xb128-coslr-100e_cifar10", stage: "pretrain" },
  { recipe: "simclr_resnet18_2xb128-coslr-100e_cifar10", stage: "linear" },
  { recipe: "demo", stage: "pretrain" },
  { recipe: "demo", stage: "linear" },
];

/** Sorted by name. */
export const MODEL_CARDS: readonly ModelCard[] = ENTRIES.map(toCard).sort((a, b) =>
  a.name < b.name ? -1 : 1,
);

export interface ListOptions {
  /** Leaves out what one of these matches. */
  readonly excludePatterns?: readonly string[];
  /** Keeps only the models of one task. */
  readonly task?: ModelTask;
}

/**
 * Names of models, sorted.
 *
 * @param pattern `*` is any text, `?` any letter; upper and lower case are the same, and the name
 *   may go on behind the pattern
 */
export function listModels(pattern = "*", options: ListOptions = {}): string[] {
  const { excludePatterns = [], task } = options;
  const wanted = toExpression(pattern);
  const excluded = excludePatterns.map(toExpression);
  return MODEL_CARDS.filter((card) => task === undefined || card.task === task)
    .map(({ name }) => name)
    .filter((name) => wanted.test(name) && !excluded.some((expression) => expression.test(name)));
}

export function findCard(name: string): ModelCard | undefined {
  return MODEL_CARDS.find((card) => card.name === name);
}

function toCard(entry: Entry): ModelCard {
  const { stage, top1, file } = entry;
  const recipe = parseRecipe(findRecipe(entry.recipe));
  const { model, data, linear } = recipe;
  const size = { imageSize: data.imageSize, classes: linear.classes };
  const { parameters, flops } = describeModel(model, stage, size);
  return {
    name: entry.name ?? (stage === "linear" ? linear.name : recipe.name),
    task: stage === "linear" ? "Image Classification" : "null",
    recipe,
    stage,
    parameters,
    flops,
    top1,
    weights: file === undefined ? undefined : `${PUBLISHED}${file}`,
  };
}

/** The patterns of mmpretrain's list_models, which puts a `*` behind each. */
function toExpression(pattern: string): RegExp {
  const escaped = pattern.replaceAll(/[.+^${}()|[\]\\]/g, "\\$&");
  return new RegExp(`^${escaped.replaceAll("*", ".*").replaceAll("?", ".")}`, "i");
}
