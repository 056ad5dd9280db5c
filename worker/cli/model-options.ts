/** The options by which a command is told which model to open, and on what. */

import type { Command } from "commander";
import type { CliContext } from "../../proto/cli/cli-context.ts";
import { positiveCount } from "../../proto/cli/option-values.ts";
import { FleetError } from "../../proto/errors.ts";
import { engineEnvironment } from "../engine/engine-environment.ts";
import { getModel } from "../inference/get-model.ts";
import type { ImageOutcome } from "../inference/map-images.ts";
import type { SourceOptions } from "../inference/model-source.ts";
import type { OpenModel } from "../inference/open-model.ts";

export interface EngineOptions {
  readonly engine: string;
  readonly threads: number;
  readonly batchSize: number;
}

export interface ModelOptions extends EngineOptions {
  readonly model?: string;
  readonly checkpoint?: string;
}

export function addModelOptions(command: Command): Command {
  command
    .option("--model <name>", "a model of `list-models` or a recipe's .yaml file")
    .option(
      "--checkpoint <path>",
      "weights: checkpoint folder, .pth or .safetensors; without --model they say what they are",
    );
  return addEngineOptions(command);
}

/** How any model is computed. */
export function addEngineOptions(command: Command): Command {
  return command
    .option("--engine <name>", "auto, onednn, tfjs, tfjs:node-gpu, tfjs:node or tfjs:wasm", "auto")
    .option("--threads <n>", "compute threads", positiveCount, 1)
    .option("--batch-size <n>", "images that are computed at once", positiveCount, 16);
}

/**
 * @throws {FleetError} USAGE without any model; whatever getModel throws
 */
export async function openModel(
  context: CliContext,
  { model, checkpoint, engine, threads }: ModelOptions,
  known: Pick<SourceOptions, "classes" | "input"> = {},
): Promise<OpenModel> {
  const what = model ?? checkpoint;
  if (what === undefined) {
    throw new FleetError("USAGE", "no model: give --checkpoint, --model or both");
  }
  for (const [name, value] of Object.entries(engineEnvironment({ threads }))) {
    context.setEnvDefault(name, value);
  }
  const pretrained = model === undefined ? true : (checkpoint ?? true);
  const opened = await getModel(what, { ...known, pretrained, engine, threads });
  if (opened.isInputAssumed) context.stderr.write(`note: ${describeAssumption(opened)}\n`);
  return opened;
}

/** Hands out what could be read. The rest is named on standard error and makes the command fail. */
export async function* readableOnes<T>(
  context: CliContext,
  outcomes: AsyncIterable<ImageOutcome<T>>,
): AsyncGenerator<{ readonly image: string; readonly value: T }> {
  for await (const outcome of outcomes) {
    if (outcome.type === "done") {
      yield outcome;
    } else {
      context.stderr.write(`error: ${outcome.error.message}\n`);
      context.setExitCode(outcome.error.exit);
    }
  }
}

function describeAssumption({ name, input }: OpenModel): string {
  const { imageSize, resizeEdge, mean } = input;
  const taken = `short edge ${resizeEdge}, centre ${imageSize}, mean ${mean.join(" ")}`;
  return `${name} does not say how its images were prepared; took ${taken} (--model says it)`;
}
