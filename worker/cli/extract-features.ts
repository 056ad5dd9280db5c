/** `worker extract-features`: a row of numbers for each image, in a file. */

import { type Command, Option } from "commander";
import { type CliContext, printJson, runCommand } from "../../proto/cli/cli-context.ts";
import { FleetError } from "../../proto/errors.ts";
import { type FeatureStage, streamFeatures } from "../inference/extract-features.ts";
import { checkFeatureFile, writeFeatures } from "../inference/write-features.ts";
import { addModelOptions, type ModelOptions, openModel, readableOnes } from "./model-options.ts";

interface ExtractOptions extends ModelOptions {
  readonly out: string;
  readonly stage: FeatureStage;
  readonly json?: boolean;
}

export function registerExtractFeatures(program: Command, context: CliContext): void {
  const command = program
    .command("extract-features <image...>")
    .description("write the features of images, and of all images below folders, to a file");
  addModelOptions(command)
    .requiredOption("--out <file>", ".npy, .safetensors or .json")
    .addOption(
      new Option("--stage <name>", "pooled features, or embeddings of the projection neck")
        .choices(["backbone", "neck"])
        .default("backbone"),
    )
    .option("--json", "print what was written, with the image of each row, as JSON")
    .addHelpText("after", "\nOne row per image that can be read, in the order given.")
    .action((images: readonly string[], options: ExtractOptions) =>
      runCommand(context, "info", () => extract(context, images, options)),
    );
}

async function extract(
  context: CliContext,
  inputs: readonly string[],
  options: ExtractOptions,
): Promise<void> {
  const { out, stage, batchSize, json = false } = options;
  checkFeatureFile(out);
  const model = await openModel(context, options);
  try {
    const images: string[] = [];
    const rows: Float32Array[] = [];
    const outcomes = streamFeatures(model, inputs, { stage, batchSize });
    for await (const { image, value } of readableOnes(context, outcomes)) {
      images.push(image);
      rows.push(value);
    }
    if (rows.length === 0)
      throw new FleetError("DATA_INVALID", "no image could be read, so nothing was written");
    writeFeatures(out, { images, rows });
    const shape = [rows.length, rows[0]!.length];
    if (json) printJson(context, { file: out, stage, shape, images });
    else context.stdout.write(`${out}: ${shape.join(" x ")} float32, ${stage} of ${model.name}\n`);
  } finally {
    model.close();
  }
}
