/** `worker analyze-logs`: curves of what runs have logged, or how long their steps took. */

import { stat } from "node:fs/promises";
import path from "node:path";
import { type Command, Option } from "commander";
import { readScalars } from "../../proto/charts/read-scalars.ts";
import { type CliContext, printJson, runCommand } from "../../proto/cli/cli-context.ts";
import { formatCount, formatShortFigure, formatTable } from "../../proto/cli/format.ts";
import { commaList, wholeNumber } from "../../proto/cli/option-values.ts";
import { FleetError } from "../../proto/errors.ts";
import { type StepTimes, stepTimes } from "../look/step-times.ts";
import type { CurveOptions, Run } from "../look/training-curves.ts";

interface AnalyzeOptions {
  readonly keys?: readonly string[];
  readonly legend?: readonly string[];
  readonly x: CurveOptions["across"];
  readonly smooth?: number;
  readonly out: string;
  readonly times: boolean;
  readonly json: boolean;
}

interface LoggedRun extends Run {
  readonly file: string;
}

const SCALARS = "scalars.jsonl";
/** Damaged lines that are listed by number. */
const LISTED_MAX = 8;

export function registerAnalyzeLogs(program: Command, context: CliContext): void {
  program
    .command("analyze-logs")
    .description("draw curves of one or several runs, or tell how long their steps took")
    .argument("<logs...>", "scalars.jsonl, or the folder of a stage that holds it")
    .option("--keys <keys>", "what to draw, with commas (default: loss, top-1, lr)", commaList)
    .option("--legend <names>", "a name for each run, with commas", commaList)
    .addOption(
      new Option("--x <axis>", "what runs across").choices(["epoch", "step"]).default("epoch"),
    )
    .option("--smooth <n>", "draw the mean of N steps on either side; 0 for none", wholeNumber)
    .option("--out <file>", "picture, .png or .svg", "curves.png")
    .option("--times", "print seconds per step instead", false)
    .addOption(new Option("--json", "print them as JSON").default(false).implies({ times: true }))
    .addHelpText(
      "after",
      "\nExample: worker analyze-logs work_dirs/*/linear --keys loss,accuracy/top1 --legend a,b",
    )
    .action((files: readonly string[], options: AnalyzeOptions) =>
      runCommand(context, "info", () => analyzeLogs(context, files, options)),
    );
}

async function analyzeLogs(
  context: CliContext,
  places: readonly string[],
  options: AnalyzeOptions,
): Promise<void> {
  const runs = await readRuns(context, places, options.legend);
  if (options.times) printTimes(context, runs, options.json);
  else await drawCurves(context, runs, options);
}

async function drawCurves(
  context: CliContext,
  runs: readonly LoggedRun[],
  options: AnalyzeOptions,
): Promise<void> {
  // Drawing takes a moment to load; the other commands have no use for it.
  const { checkPicturePath, writeChart } = await import("../../proto/charts/write-chart.ts");
  const { curvesChart, keysOf, usualKeys } = await import("../look/training-curves.ts");
  await checkPicturePath(options.out);
  const known = keysOf(runs);
  const keys = options.keys ?? usualKeys(known);
  checkKeys(keys, known, options.x);
  await writeChart(
    options.out,
    curvesChart(runs, { keys, across: options.x, smoothing: options.smooth }),
  );
  context.stdout.write(`wrote ${options.out}\n`);
}

async function readRuns(
  context: CliContext,
  places: readonly string[],
  legends: readonly string[] | undefined,
): Promise<readonly LoggedRun[]> {
  if (legends !== undefined && legends.length !== places.length) {
    const problem = `--legend has ${legends.length} names for ${places.length} logs`;
    throw new FleetError("USAGE", problem);
  }
  const files = await Promise.all(places.map(scalarsFile));
  const named = files.map(shortName);
  return Promise.all(
    files.map(async (file, i) => {
      const { rows, damaged } = await readScalars(file);
      if (damaged.length > 0) context.stderr.write(`note: ${file}: ${describe(damaged)}\n`);
      const isAlone = named.indexOf(named[i]!) === named.lastIndexOf(named[i]!);
      return { file, rows, legend: legends?.[i] ?? (isAlone ? named[i]! : file) };
    }),
  );
}

/** e.g. "demo-1a2b3c/linear", of the file's folder. */
function shortName(file: string): string {
  if (path.basename(file) !== SCALARS) return file;
  return path.resolve(file).split(path.sep).slice(-3, -1).join("/");
}

async function scalarsFile(place: string): Promise<string> {
  const found = await stat(place).catch(() => undefined);
  return found?.isDirectory() ? path.join(place, SCALARS) : place;
}

function describe(damaged: readonly number[]): string {
  const more = damaged.length > LISTED_MAX ? ` and ${damaged.length - LISTED_MAX} more` : "";
  const lines = `${damaged.slice(0, LISTED_MAX).join(", ")}${more}`;
  return damaged.length === 1
    ? `line ${lines} is damaged and passed over`
    : `lines ${lines} are damaged and passed over`;
}

/** @throws {FleetError} NOT_FOUND naming what there is instead */
function checkKeys(
  keys: readonly string[],
  known: readonly string[],
  across: CurveOptions["across"],
): void {
  const missing = [...keys, across].filter((key) => !known.includes(key));
  if (missing.length === 0 && keys.length > 0) return;
  const what = missing.length > 0 ? missing.join(", ") : "loss";
  throw new FleetError("NOT_FOUND", `no run has ${what}; there is ${known.join(", ")}`);
}

const HEAD = [
  "RUN",
  "STEPS",
  "MEAN",
  "MEDIAN",
  "MIN",
  "MAX",
  "SLOWEST EPOCH",
  "FASTEST",
  "IMAGES/S",
];

function printTimes(context: CliContext, runs: readonly LoggedRun[], isJson: boolean): void {
  const timed = runs.map(({ legend, file, rows }) => {
    const times = stepTimes(rows);
    if (times !== undefined) return { run: legend, file, ...times };
    throw new FleetError("DATA_INVALID", `${file} has no step with its time (epoch, step_s)`);
  });
  if (isJson) printJson(context, timed);
  else context.stdout.write(formatTable(HEAD, timed.map(row)));
}

function row(times: StepTimes & { readonly run: string }): string[] {
  const { stepSeconds, slowestEpoch, fastestEpoch } = times;
  const seconds = (value: number): string => `${formatShortFigure(value)} s`;
  const epoch = ({ epoch: number, meanStepSeconds }: StepTimes["slowestEpoch"]): string =>
    `${number}: ${seconds(meanStepSeconds)}`;
  return [
    times.run,
    formatCount(times.steps),
    ...[stepSeconds.mean, stepSeconds.median, stepSeconds.min, stepSeconds.max].map(seconds),
    epoch(slowestEpoch),
    epoch(fastestEpoch),
    formatShortFigure(times.imagesPerSecond),
  ];
}
