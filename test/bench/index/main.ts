/** `npm run bench:index -- [--images N] ...`: how long it takes to open a data set of tar files. */

import { existsSync, mkdtempSync, readdirSync, rmSync, statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { Command, InvalidArgumentError } from "commander";
import type { z } from "zod";
import { FleetError } from "../../../proto/errors.ts";
import { runBench } from "../bench-command.ts";
import { runScript } from "../run-script.ts";
import { laterMedian, round } from "../step/measurement.ts";
import type { RunOptions } from "../within-run.ts";
import {
  type IndexSpec,
  type IndexTask,
  type Listed,
  listedSchema,
  type Opened,
  openedSchema,
} from "./spec.ts";
import { writeArchives } from "./write-archives.ts";

const PROCESS = fileURLToPath(new URL("./index-process.js", import.meta.url));
/** Python is not built, so it stands with the sources. */
const PEER = path.resolve("test/bench/index/list_tarfile.py");

interface Options extends IndexSpec {
  readonly json?: true;
  readonly python?: string;
  readonly dir: string;
  readonly rounds: number;
  /** Seconds. */
  readonly timeout: number;
}

/** One start without an index, one with it, and the peer. */
interface Round {
  readonly built: Opened;
  readonly reopened: Opened;
  readonly peer: Listed | undefined;
}

async function bench(options: Options, signal: AbortSignal): Promise<void> {
  const { images, bytes, classes, shards, reads, python, rounds } = options;
  const spec: IndexSpec = { images, bytes, classes, shards, reads };
  checkSpec(spec, options.dir);
  const folder = mkdtempSync(path.join(options.dir, "bench-index-"));
  const run: RunOptions = { timeoutMs: 1000 * options.timeout, signal };
  try {
    const files = await writeArchives(folder, spec, signal);
    const done: Round[] = [];
    while (done.length < rounds) {
      done.push(await runRound({ folder, files, reads, python }, run));
      process.stderr.write(`round ${done.length} of ${rounds}: ${roundLine(done.at(-1)!)}\n`);
    }
    const result = resultOf(spec, done);
    process.stdout.write(`${options.json ? JSON.stringify(result) : table(result)}\n`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** @throws {FleetError} USAGE, NOT_FOUND */
function checkSpec({ images, bytes, classes, shards }: IndexSpec, folder: string): void {
  if (classes > images || shards > images) {
    throw new FleetError("USAGE", `${images} images are fewer than the classes or the shards`);
  }
  if (!existsSync(folder)) throw new FleetError("NOT_FOUND", `there is no folder ${folder}`);
  const needed = images * (512 + Math.ceil(bytes / 512) * 512 + 100);
  const { bavail, bsize } = statfsSync(folder);
  if (needed <= bavail * bsize) return;
  const free = `${folder} has ${Math.floor((bavail * bsize) / 1e6)} MB free`;
  throw new FleetError("USAGE", `${free}, the archives take ${Math.ceil(needed / 1e6)} MB`);
}

async function runRound(
  task: IndexTask & { readonly files: readonly string[]; readonly python: string | undefined },
  run: RunOptions,
): Promise<Round> {
  const { folder, files, reads, python } = task;
  for (const name of readdirSync(folder)) {
    if (name.endsWith(".index")) rmSync(path.join(folder, name));
  }
  const peer =
    python === undefined ? undefined : await measured(python, [PEER, ...files], listedSchema, run);
  const open = (given: IndexTask): Promise<Opened> =>
    measured(process.execPath, ["--expose-gc", PROCESS, JSON.stringify(given)], openedSchema, run);
  const built = await open({ folder, reads: 0 });
  return { built, reopened: await open({ folder, reads }), peer };
}

async function measured<Schema extends z.ZodType>(
  command: string,
  args: readonly string[],
  schema: Schema,
  run: RunOptions,
): Promise<z.infer<Schema>> {
  const end = await runScript(command, args, run);
  if (!end.isSuccess) throw end.failure();
  return schema.parse(JSON.parse(end.stdout));
}

type Result = ReturnType<typeof resultOf>;

/** Medians of the rounds, each by itself; memory and stalls are the highest of all. */
function resultOf(spec: IndexSpec, rounds: readonly Round[]) {
  const built = rounds.map((each) => each.built);
  const reopened = rounds.map((each) => each.reopened);
  const peers = rounds.flatMap(({ peer }) => (peer === undefined ? [] : [peer]));
  const build_s = laterMedian(built.map(({ open_s }) => open_s));
  const build_mb = highest(built.map(({ peak_mb }) => peak_mb));
  const ratios = peers.map(({ list_s }, i) => round(list_s / built[i]!.open_s, 2));
  const peer_mb = highest(peers.map(({ peak_mb }) => peak_mb));
  return {
    ...spec,
    build_s,
    entries_per_s: round(spec.images / build_s, 0),
    build_mb,
    held_mb: highest(built.map(({ held_mb }) => held_mb)),
    build_stall_ms: highest(built.map(({ stall_ms }) => stall_ms)),
    reopen_s: laterMedian(reopened.map(({ open_s }) => open_s)),
    reopen_mb: highest(reopened.map(({ peak_mb }) => peak_mb)),
    reopen_stall_ms: highest(reopened.map(({ stall_ms }) => stall_ms)),
    reads_per_s: laterMedian(reopened.map(({ reads_per_s = 0 }) => reads_per_s)),
    permutation_ms: laterMedian(reopened.map(({ permutation_ms = 0 }) => permutation_ms)),
    ...(peers.length > 0 && {
      peer_s: round(laterMedian(peers.map(({ list_s }) => list_s)), 4),
      peer_mb,
      ratios,
      ratio: laterMedian(ratios),
      memory_ratio: round(build_mb / peer_mb, 3),
    }),
  };
}

function table(result: Result): string {
  const { ratio, ratios, peer_s, peer_mb, memory_ratio } = result;
  const { images, bytes, classes, shards } = result;
  return [
    `${images} images of ${bytes} bytes, ${classes} classes, ${shards} tar file(s)`,
    `build     ${result.build_s} s, ${result.entries_per_s} entries/s`,
    `  memory  ${result.build_mb} MB at most, ${result.held_mb} MB when open`,
    `  stall   ${result.build_stall_ms} ms of the main thread, at most`,
    `reopen    ${result.reopen_s} s, ${result.reopen_mb} MB, stall ${result.reopen_stall_ms} ms`,
    `reads     ${result.reads_per_s} a second, in the sampler's order`,
    `epoch     ${result.permutation_ms} ms for its permutation`,
    ...(ratio === undefined
      ? []
      : [
          `tarfile   ${peer_s} s, ${peer_mb} MB at most`,
          `ratio     ${ratio} (${ratios?.join(", ")}): tarfile's time / that of the build`,
          `memory    ${memory_ratio}: ours / tarfile's`,
        ]),
  ].join("\n");
}

function roundLine({ built, reopened, peer }: Round): string {
  const theirs = peer === undefined ? "" : `, tarfile ${peer.list_s.toFixed(2)} s`;
  return `build ${built.open_s} s, reopen ${reopened.open_s} s${theirs}`;
}

function highest(values: readonly number[]): number {
  return Math.max(...values);
}

function positive(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError("It is no positive number.");
  return Number(text);
}

const command = new Command("bench:index")
  .description("Measures how tar files are indexed, opened again, and read in random order.")
  .option("--images <n>", "entries of all archives", positive, 1_300_000)
  .option("--bytes <n>", "contents of each", positive, 1024)
  .option("--classes <n>", "class folders", positive, 1000)
  .option("--shards <n>", "tar files that share the images", positive, 1)
  .option("--reads <n>", "random reads to measure", positive, 100_000)
  .option("--python <file>", "compare with the tarfile module of this interpreter")
  .option("--dir <folder>", "where the archives are written, and removed again", tmpdir())
  .option("--rounds <n>", "how often all run in turn", positive, 3)
  .option("--timeout <seconds>", "longest time for one run of either", positive, 600)
  .option("--json", "print one JSON object");

await runBench<Options>(command, bench);
