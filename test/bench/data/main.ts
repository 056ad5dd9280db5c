/** `npm run bench:data -- --images DIR ...`: how fast views are made, beside Pillow's pipeline. */

import { existsSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { Command, InvalidArgumentError, Option } from "commander";
import { FleetError } from "../../../proto/errors.ts";
import { runBench } from "../bench-command.ts";
import { runScript } from "../run-script.ts";
import { laterMedian } from "../step/measurement.ts";
import type { RunOptions } from "../within-run.ts";
import { type DataSpec, type Measurement, measurementSchema, PIPELINES } from "./spec.ts";

const DEFAULT_PEER = "../shared/peers/pil_augment.py";
const OURS = fileURLToPath(new URL("./loaders-process.js", import.meta.url));

interface Options extends DataSpec {
  readonly json?: true;
  readonly peer?: string | true;
  readonly python: string;
  readonly rounds: number;
  /** Seconds. */
  readonly timeout: number;
}

interface Run extends Measurement {
  readonly peak_rss_mb: number;
}

async function bench(options: Options, signal: AbortSignal): Promise<void> {
  const { pipeline, threads, size, repeat, python, rounds } = options;
  const images = path.resolve(options.images);
  if (!existsSync(images)) throw new FleetError("NOT_FOUND", `there is no folder ${images}`);
  const spec: DataSpec = { images, pipeline, threads, size, repeat };
  const script = peerScript(options);
  const run: RunOptions = { timeoutMs: 1000 * options.timeout, signal };
  const peerArgs = ["--images", images, "--procs", String(threads), "--repeat", String(repeat)];
  const ours: Run[] = [];
  const peer: Run[] = [];
  for (let round = 1; round <= (script === undefined ? 1 : rounds); round++) {
    ours.push(await measure(process.execPath, [OURS, JSON.stringify(spec)], run));
    if (script === undefined) continue;
    peer.push(await measure(python, [script, ...peerArgs], run));
    const [mine, theirs] = [ours.at(-1)!.images_per_s, peer.at(-1)!.images_per_s];
    process.stderr.write(`round ${round} of ${rounds}: ${mine} and ${theirs} images/s\n`);
  }
  const ratios = peer.map((theirs, i) =>
    Number((ours[i]!.images_per_s / theirs.images_per_s).toFixed(3)),
  );
  const result = {
    pipeline,
    threads,
    size,
    ours: middle(ours),
    ...(peer.length > 0 && { peer: middle(peer), ratio: laterMedian(ratios), ratios }),
  };
  process.stdout.write(`${options.json ? JSON.stringify(result) : text(result)}\n`);
}

/** @throws {FleetError} NOT_FOUND, USAGE */
function peerScript({ peer, pipeline, size }: Options): string | undefined {
  if (peer === undefined) return undefined;
  if (pipeline !== "pretrain" || size !== 224) {
    throw new FleetError("USAGE", "the peer makes the 224 px views of pre-training, nothing else");
  }
  const script = path.resolve(peer === true ? DEFAULT_PEER : peer);
  if (!existsSync(script)) throw new FleetError("NOT_FOUND", `there is no peer ${script}`);
  return script;
}

async function measure(
  interpreter: string,
  args: readonly string[],
  options: RunOptions,
): Promise<Run> {
  const end = await runScript(interpreter, args, options);
  const lastLine = end.stdout.trim().split("\n").at(-1) ?? "";
  let printed: unknown;
  try {
    printed = JSON.parse(lastLine);
  } catch {
    throw end.failure();
  }
  const parsed = measurementSchema.safeParse(printed);
  if (!end.isSuccess || !parsed.success) throw end.failure();
  return { ...parsed.data, peak_rss_mb: Math.round(end.peakRssMb) };
}

/** The round in the middle by its rate. */
function middle(runs: readonly Run[]): Run {
  const median = laterMedian(runs.map(({ images_per_s }) => images_per_s));
  return runs.find(({ images_per_s }) => images_per_s === median)!;
}

function text(result: {
  readonly pipeline: string;
  readonly threads: number;
  readonly ours: Run;
  readonly peer?: Run;
  readonly ratio?: number;
  readonly ratios?: readonly number[];
}): string {
  const { pipeline, threads, ours, peer, ratio, ratios } = result;
  const line = (name: string, { images_per_s, peak_rss_mb }: Run): string =>
    `${name.padEnd(8)} ${images_per_s.toFixed(1).padStart(8)} images/s  ${peak_rss_mb} MB`;
  return [
    `${pipeline}, ${threads} threads`,
    line("ours", ours),
    ...(peer ? [line("Pillow", peer), `ratio ${ratio} (${ratios?.join(", ")})`] : []),
  ].join("\n");
}

function positive(value: string): number {
  if (!/^[1-9]\d{0,8}$/.test(value)) throw new InvalidArgumentError("It is no positive number.");
  return Number(value);
}

const command = new Command("bench:data")
  .description("Measures how many images a second are read, decoded and augmented.")
  .requiredOption("--images <dir>", "folder of JPEG images")
  .option("--threads <n>", "loader threads; the peer's processes", positive, 2)
  .addOption(
    new Option("--pipeline <name>", "what becomes of an image")
      .choices(PIPELINES)
      .default("pretrain"),
  )
  .option("--size <pixels>", "edge of the views", positive, 224)
  .option("--repeat <n>", "passes over the images that are measured", positive, 4)
  .option("--peer [file]", `compare with this script (default: ${DEFAULT_PEER})`)
  .option("--python <file>", "interpreter of the peer", "python3")
  .option("--rounds <n>", "with --peer: how often both run in turn", positive, 5)
  .option("--timeout <seconds>", "longest time for one run of either", positive, 600)
  .option("--json", "print one JSON object");

await runBench<Options>(command, bench);
