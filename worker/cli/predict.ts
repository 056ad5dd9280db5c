/** `worker predict`: the classes that a model sees in images. */

import { readFile } from "node:fs/promises";
import type { Command } from "commander";
import { type CliContext, printJson, runCommand } from "../../proto/cli/cli-context.ts";
import { formatTable } from "../../proto/cli/format.ts";
import { positiveCount } from "../../proto/cli/option-values.ts";
import { FleetError } from "../../proto/errors.ts";
import { parseClassList } from "../inference/imagenet-classes.ts";
import {
  type Prediction,
  refusePretraining,
  streamPredictions,
} from "../inference/inference-model.ts";
import type { OpenModel } from "../inference/open-model.ts";
import { addModelOptions, type ModelOptions, openModel, readableOnes } from "./model-options.ts";

interface PredictOptions extends ModelOptions {
  readonly classes?: string;
  readonly top: number;
  readonly json?: boolean;
}

/** Names as in the API's predictions. */
interface RankedClass {
  readonly pred_label: number;
  readonly pred_score: number;
  readonly pred_class?: string;
}

interface RankedImage {
  readonly image: string;
  /** Best first. */
  readonly predictions: readonly RankedClass[];
}

const SCORE_DIGITS = 4;

export function registerPredict(program: Command, context: CliContext): void {
  const command = program
    .command("predict <image...>")
    .description("classify images, and all images below folders");
  addModelOptions(command)
    .option("--classes <file>", "names of the classes, one per line; the weights' own if absent")
    .option("--top <k>", "classes per image, best first", positiveCount, 1)
    .option("--json", "print JSON")
    .action((images: readonly string[], options: PredictOptions) =>
      runCommand(context, "info", () => predict(context, images, options)),
    );
}

async function predict(
  context: CliContext,
  images: readonly string[],
  options: PredictOptions,
): Promise<void> {
  const { batchSize, top, json = false, checkpoint } = options;
  if (options.model !== undefined && checkpoint === undefined) refusePretraining(options.model);
  const classes = options.classes === undefined ? undefined : await readClasses(options.classes);
  const model = await openModel(context, options, classes ? { classes } : {});
  try {
    const ranked: RankedImage[] = [];
    const outcomes = streamPredictions(model, images, { batchSize });
    for await (const { image, value } of readableOnes(context, outcomes)) {
      ranked.push({ image, predictions: rank(value, top, model) });
    }
    if (json) printJson(context, ranked);
    else if (ranked.length > 0) context.stdout.write(describe(ranked));
  } finally {
    model.close();
  }
}

function rank(
  { pred_scores }: Prediction,
  top: number,
  { classes }: Pick<OpenModel, "classes">,
): RankedClass[] {
  return [...pred_scores.entries()]
    .sort(([, a], [, b]) => b - a)
    .slice(0, top)
    .map(([pred_label, pred_score]) => {
      const pred_class = classes?.[pred_label];
      return { pred_label, pred_score, ...(pred_class === undefined ? {} : { pred_class }) };
    });
}

function describe(ranked: readonly RankedImage[]): string {
  const rows = ranked.flatMap(({ image, predictions }) =>
    predictions.map(({ pred_label, pred_score, pred_class = "" }) => [
      image,
      String(pred_label),
      pred_score.toFixed(SCORE_DIGITS),
      // The weights' names may be anybody's, and a terminal obeys what it is shown.
      pred_class.replaceAll(/\p{Cc}/gu, "?"),
    ]),
  );
  return formatTable(["IMAGE", "LABEL", "SCORE", "CLASS"], rows);
}

async function readClasses(file: string): Promise<readonly string[]> {
  try {
    return parseClassList(await readFile(file, "utf8"));
  } catch (thrown) {
    const { code, message } = thrown as NodeJS.ErrnoException;
    const reason = code === "ENOENT" ? "no such file" : message;
    throw new FleetError("NOT_FOUND", `cannot read the classes ${file}: ${reason}`, {}, thrown);
  }
}
