/**
 * Finds out what model is meant: by a name, by a recipe's file, or by weights alone.
 *
 * A recipe says the architecture and how images are prepared; then weights have to fit. Weights
 * without a recipe say it themselves: a checkpoint of ours in its manifest, any other file by the
 * shapes of its tensors.
 */

import { existsSync } from "node:fs";
import { loadRecipe } from "../../proto/cli/load-recipe.ts";
import { FleetError } from "../../proto/errors.ts";
import { inferModel, modelTensors, partsOf } from "../../proto/model/infer-model.ts";
import { type InputRecipe, inputOf, usualInput } from "../../proto/model/input-view.ts";
import type { ModelRecipe, Recipe, StageName } from "../../proto/recipe.ts";
import { nearestKey } from "../../proto/recipe-keys.ts";
import { describeMatch, loadWeights } from "../checkpoint/load-weights.ts";
import { naming } from "../checkpoint/naming.ts";
import { readWeights, type Weights } from "../checkpoint/read-weights.ts";
import { initialState } from "../model/initial-state.ts";
import type { NamedTensors } from "../model/model-state.ts";
import { nameOutputs } from "./imagenet-classes.ts";
import { findCard, listModels, MODEL_CARDS, type ModelCard } from "./model-zoo.ts";

export interface SourceOptions {
  /**
   * File or checkpoint folder with the weights of a model that is given by name or recipe. Without
   * it such a model has the random weights that its training starts from; `true` would be published
   * weights, which have to be downloaded first.
   */
  readonly pretrained?: boolean | string;
  /** Names of a classifier's outputs, where the weights do not have them. */
  readonly classes?: readonly string[];
  /** How images are prepared, where neither the weights nor a recipe say it. */
  readonly input?: InputRecipe;
}

/** A model on the host, ready for an engine. */
export interface ModelSource {
  /** As it was asked for. */
  readonly name: string;
  readonly model: ModelRecipe;
  readonly input: InputRecipe;
  /** Whether nothing says how images were prepared in training, so that the usual was taken. */
  readonly isInputAssumed: boolean;
  readonly tensors: NamedTensors;
  readonly hasNeck: boolean;
  /** Of the linear classifier; undefined without one. */
  readonly outputs: number | undefined;
  /** Name of each output; undefined when none is known. */
  readonly classes: readonly string[] | undefined;
}

/** A recipe, and which of its two models is meant. */
interface Wanted {
  readonly recipe: Recipe;
  readonly stage: StageName;
}

/**
 * Reads what `what` names: a model of the zoo, a recipe's .yaml file, or a file or folder of
 * weights.
 *
 * @throws {FleetError} NOT_FOUND, RECIPE_INVALID, CHECKPOINT_INVALID, USAGE
 */
export async function readModelSource(what: string, options: SourceOptions): Promise<ModelSource> {
  const { pretrained = false } = options;
  const card = findCard(what);
  if (card && pretrained === true) throw notDownloaded(card);
  const wanted = card ?? (await readRecipe(what));
  if (wanted === undefined) {
    if (!existsSync(what)) throw unknown(what);
    if (typeof pretrained === "boolean") return ofWeights(what, what, undefined, options);
    throw new FleetError("USAGE", `${what} has weights already; ${pretrained} would replace them`);
  }
  if (typeof pretrained === "string") return ofWeights(what, pretrained, wanted, options);
  if (pretrained) {
    throw new FleetError("USAGE", `${what} has no published weights; pass the path of a file`);
  }
  return ofChance(what, wanted, options);
}

async function readRecipe(file: string): Promise<Wanted | undefined> {
  if (!/\.ya?ml$/.test(file)) return undefined;
  const recipe = await loadRecipe(file, []);
  return { recipe, stage: recipe.stages.includes("pretrain") ? "pretrain" : "linear" };
}

function ofWeights(
  name: string,
  path: string,
  wanted: Wanted | undefined,
  options: SourceOptions,
): ModelSource {
  const weights = readWeights(path);
  const { model, input } = naming(path, () =>
    wanted
      ? { model: wanted.recipe.model, input: inputOf(wanted.recipe) }
      : ownRecipe(weights, options),
  );
  const { hasNeck, classes: outputs } = partsOf(weights.tensors);
  const tensors = naming(path, () => {
    if (outputs === 0) throw invalid("has a classifier of 0 classes");
    if (outputs === undefined && wanted?.stage === "linear") {
      throw invalid(`has no classifier, which ${name} has; it may be weights of a SimCLR model`);
    }
    const specs = modelTensors({ model, hasNeck, classes: outputs });
    const { tensors: loaded, match } = loadWeights(weights, specs, model);
    if (match.missing.length + match.misshapen.length === 0) return loaded;
    throw invalid(`does not fit the model: ${describeMatch({ ...match, unexpected: [] })}`);
  });
  const classes = nameOutputs(outputs, options.classes, weights.classes);
  const isInputAssumed = !(wanted ?? weights.imageInput ?? options.input);
  return { name, model, input, isInputAssumed, tensors, hasNeck, outputs, classes };
}

function ownRecipe(
  { tensors, model, imageInput }: Weights,
  { input }: SourceOptions,
): Pick<ModelSource, "model" | "input"> {
  const known = model ?? inferModel(tensors).model;
  return { model: known, input: imageInput ?? input ?? usualInput(known) };
}

function ofChance(name: string, { recipe, stage }: Wanted, options: SourceOptions): ModelSource {
  const { model, linear, seed } = recipe;
  const outputs = stage === "linear" ? linear.classes : undefined;
  return {
    name,
    model,
    input: inputOf(recipe),
    isInputAssumed: false,
    tensors: initialState(model, stage, seed, outputs).tensors,
    hasNeck: stage === "pretrain",
    outputs,
    classes: nameOutputs(outputs, options.classes, undefined),
  };
}

function invalid(problem: string): FleetError {
  return new FleetError("CHECKPOINT_INVALID", problem);
}

function notDownloaded({ name, weights }: ModelCard): FleetError {
  const advice = weights
    ? `are published at ${weights}; download that file and pass its path`
    : "are not published; pass the path of a checkpoint that you trained";
  const option = "(--checkpoint of commands, `pretrained` of programs)";
  return new FleetError("NOT_FOUND", `the weights of ${name} ${advice} ${option}`);
}

function unknown(what: string): FleetError {
  const names = MODEL_CARDS.map(({ name }) => name);
  const nearest = listModels(what)[0] ?? nearestKey(what, names);
  const hint = nearest === undefined ? "" : `; did you mean ${nearest}?`;
  return new FleetError("NOT_FOUND", `${what} is neither a model's name nor a file${hint}`);
}
