/** `worker tsne`: how a model's features lie, as points in the plane. */

import { type Command, Option } from "commander";
import { type CliContext, runCommand } from "../../proto/cli/cli-context.ts";
import { formatCount } from "../../proto/cli/format.ts";
import { loadRecipe, recipeSetting } from "../../proto/cli/load-recipe.ts";
import { commaList, positiveCount, wholeNumber } from "../../proto/cli/option-values.ts";
import { FleetError } from "../../proto/errors.ts";
import { inputOf } from "../../proto/model/input-view.ts";
import { RECIPES } from "../../proto/recipes/registry.ts";
import { readWeights } from "../checkpoint/read-weights.ts";
import { type Dataset, imageName } from "../data/dataset.ts";
import { EntryReader } from "../data/entry-reader.ts";
import { type FeatureStage, streamFeatures } from "../inference/extract-features.ts";
import type { ImageInput } from "../inference/image-input.ts";
import type { OpenModel } from "../inference/open-model.ts";
import { type ChosenImages, chooseImages } from "../look/choose-images.ts";
import { addEngineOptions, type EngineOptions, openModel } from "./model-options.ts";
import { openSplit } from "./open-split.ts";
import { showProgress } from "./show-progress.ts";

interface TsneOptions extends EngineOptions {
  readonly recipe?: string;
  readonly set: readonly string[];
  readonly split: "train" | "val";
  readonly classes?: readonly string[];
  readonly maxNumClass: number;
  readonly maxNumSamples: number;
  readonly perplexity: number;
  readonly nIter: number;
  readonly seed: number;
  readonly stage: FeatureStage;
  readonly out: string;
}

interface Features {
  readonly rows: readonly Float32Array[];
  /** Per row: which of the chosen classes. */
  readonly labels: readonly number[];
}

/** Encoded images that are held at a time. */
const READ_AHEAD = 256;

export function registerTsne(program: Command, context: CliContext): void {
  const command = program
    .command("tsne")
    .description("draw t-SNE of a model's features, coloured by class")
    .argument("<checkpoint>", "weights: checkpoint folder, .pth or .safetensors")
    .option("--recipe <recipe>", "what names the images; the built-in one of the weights if absent")
    .addOption(recipeSetting());
  addEngineOptions(command)
    .addOption(
      new Option("--stage <name>", "pooled features, or embeddings of the projection neck")
        .choices(["backbone", "neck"])
        .default("backbone"),
    )
    .addOption(
      new Option("--split <split>", "which images").choices(["train", "val"]).default("val"),
    )
    .option("--classes <names>", "only these classes, with commas", commaList)
    .option("--max-num-class <n>", "how many classes", positiveCount, 20)
    .option("--max-num-samples <n>", "images of each class", positiveCount, 100)
    .option("--perplexity <n>", "about how many neighbours count", positiveCount, 30)
    .option("--n-iter <n>", "iterations", positiveCount, 1000)
    .option("--seed <n>", "of the first places", wholeNumber, 0)
    .option("--out <file>", "picture, .png or .svg", "tsne.png")
    .addHelpText(
      "after",
      "\nExample: worker tsne work_dirs/ID/pretrain/checkpoints/step-000039100" +
        " --set data.root=/data/cifar10",
    )
    .action((checkpoint: string, options: TsneOptions) =>
      runCommand(context, "info", () => tsne(context, checkpoint, options)),
    );
}

async function tsne(context: CliContext, checkpoint: string, options: TsneOptions): Promise<void> {
  const recipe = await loadRecipe(options.recipe ?? recipeNameOf(checkpoint), options.set);
  // Drawing takes a moment to load; the other commands have no use for it.
  const { checkPicturePath, writeChart } = await import("../../proto/charts/write-chart.ts");
  const { checkEmbeddable, embedFeatures } = await import("../look/embed-features.ts");
  const { SIGNS, tsneChart } = await import("../look/tsne-chart.ts");
  const { perplexity, nIter: iterations, seed, stage, out } = options;
  await checkPicturePath(out);
  if (Math.max(options.maxNumClass, options.classes?.length ?? 0) > SIGNS) {
    throw new FleetError("USAGE", `more than ${SIGNS} classes cannot be told apart in a picture`);
  }
  const dataset = await openSplit(context, recipe.data, options.split);
  const chosen = chooseImages(dataset, {
    classes: options.classes,
    classesMax: options.maxNumClass,
    imagesMax: options.maxNumSamples,
  });
  checkEmbeddable(chosen.indices.length, perplexity);
  const model = await openModel(context, { ...options, checkpoint }, { input: inputOf(recipe) });
  const { rows, labels } = await extractChosen(context, model, dataset, chosen, options);
  const progress = showProgress(context.stderr, "t-SNE, iterations", iterations);
  const places = embedFeatures(rows, { perplexity, iterations, seed }, progress);
  const chart = tsneChart({
    title: `t-SNE of ${stage} features`,
    subtitle:
      `${checkpoint}: ${formatCount(rows.length)} images of ${dataset.location}, ` +
      `perplexity ${perplexity}, ${iterations} iterations, seed ${seed}`,
    classes: chosen.classes,
    labels,
    places,
  });
  await writeChart(out, chart);
  context.stdout.write(`wrote ${out}\n`);
}

/** @throws {FleetError} USAGE when the weights do not say with what they were trained */
function recipeNameOf(checkpoint: string): string {
  const { recipe } = readWeights(checkpoint).metadata;
  if (RECIPES.some(({ name }) => name === recipe)) return String(recipe);
  const trained = recipe === undefined ? "does not say what it" : `says that ${recipe}`;
  throw new FleetError(
    "USAGE",
    `${checkpoint} ${trained} was trained on; name the images by --recipe and --set data.root=...`,
  );
}

/** Closes the model. */
async function extractChosen(
  context: CliContext,
  model: OpenModel,
  dataset: Dataset,
  { indices, labels }: ChosenImages,
  options: TsneOptions,
): Promise<Features> {
  const reader = new EntryReader(dataset);
  const progress = showProgress(context.stderr, "features, images", indices.length);
  const kept: { readonly row: Float32Array; readonly label: number }[] = [];
  try {
    for (let begin = 0; begin < indices.length; begin += READ_AHEAD) {
      const part = indices.slice(begin, begin + READ_AHEAD);
      const inputs = part.map((index): ImageInput => encodedImage(dataset, reader, index));
      let at = begin;
      for await (const outcome of streamFeatures(model, inputs, options)) {
        const label = labels[at]!;
        if (outcome.type === "done") kept.push({ row: outcome.value, label });
        else noteUnreadable(context, imageName(dataset, indices[at]!), outcome.error);
        at += 1;
        progress(at);
      }
    }
  } finally {
    reader.close();
    model.close();
  }
  return { rows: kept.map(({ row }) => row), labels: kept.map(({ label }) => label) };
}

/** A path, or bytes where the image lies within an archive. */
function encodedImage(dataset: Dataset, reader: EntryReader, index: number): ImageInput {
  return dataset.storage.type === "files" ? imageName(dataset, index) : reader.read(index);
}

function noteUnreadable(context: CliContext, name: string, error: FleetError): void {
  context.stderr.write(`note: ${name} is left out: ${error.message}\n`);
}
