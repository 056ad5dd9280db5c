/** `worker confusion-matrix`: draws the confusion.json of a linear stage, and lists its worst. */

import { readFile } from "node:fs/promises";
import type { Command } from "commander";
import { type CliContext, runCommand } from "../../proto/cli/cli-context.ts";
import { formatCount, formatTable } from "../../proto/cli/format.ts";
import { FleetError } from "../../proto/errors.ts";

interface ConfusionOptions {
  readonly out: string;
}

export function registerConfusionMatrix(program: Command, context: CliContext): void {
  program
    .command("confusion-matrix")
    .description("draw which classes a linear evaluation took for which, and list the worst pairs")
    .argument("<file>", "confusion.json of a linear stage")
    .option("--out <file>", "picture, .png or .svg", "confusion.png")
    .addHelpText("after", "\nExample: worker confusion-matrix work_dirs/ID/linear/confusion.json")
    .action((file: string, options: ConfusionOptions) =>
      runCommand(context, "info", () => drawConfusion(context, file, options)),
    );
}

async function drawConfusion(
  context: CliContext,
  file: string,
  { out }: ConfusionOptions,
): Promise<void> {
  // Drawing takes a moment to load; the other commands have no use for it.
  const { checkPicturePath, writeChart } = await import("../../proto/charts/write-chart.ts");
  const { confusionChart } = await import("../look/confusion-chart.ts");
  const { accuracyOf, mostConfused, parseConfusion } = await import("../look/confusion-matrix.ts");
  await checkPicturePath(out);
  const matrix = parseConfusion(await readText(file), file);
  const { images, top1 } = accuracyOf(matrix);
  if (images === 0) throw new FleetError("DATA_INVALID", `${file} counts no image`);
  await writeChart(out, await confusionChart(matrix));
  const rows = mostConfused(matrix).map((pair) => [
    formatCount(pair.images),
    `${pair.percent.toFixed(2)} %`,
    pair.true,
    pair.predicted,
  ]);
  context.stdout.write(formatTable(["IMAGES", "OF CLASS", "TRUE", "PREDICTED"], rows));
  context.stdout.write(`top-1 ${top1.toFixed(2)} % of ${formatCount(images)} images\n`);
  context.stdout.write(`wrote ${out}\n`);
}

async function readText(file: string): Promise<string> {
  return readFile(file, "utf8").catch((cause: NodeJS.ErrnoException) => {
    const reason = cause.code === "ENOENT" ? "no such file" : cause.message;
    throw new FleetError("NOT_FOUND", `cannot read ${file}: ${reason}`, {}, cause);
  });
}
