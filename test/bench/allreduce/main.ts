/** `npm run bench:allreduce -- [--world N] ...`: how fast gradients are summed, beside Gloo. */

import { existsSync } from "node:fs";
import path from "node:path";
import { Command, InvalidArgumentError, Option } from "commander";
import { FleetError } from "../../../proto/errors.ts";
import { runBench } from "../bench-command.ts";
import { laterMedian } from "../step/measurement.ts";
import type { RunOptions } from "../within-run.ts";
import { runGloo } from "./run-gloo.ts";
import { runRanks } from "./run-ranks.ts";
import { type AllReduceSpec, type SizeResult, TRANSPORTS } from "./spec.ts";

const DEFAULT_PEER = "../shared/peers/gloo_allreduce.py";

interface Options extends AllReduceSpec {
  readonly json?: true;
  readonly peer?: string | true;
  readonly python: string;
  readonly rounds: number;
  /** Seconds. */
  readonly timeout: number;
}

/** Of all rounds; the ratios are those of bus bandwidths, so above 1 ours is the faster one. */
interface Row {
  readonly bytes: number;
  readonly ours: SizeResult;
  readonly peer?: SizeResult;
  readonly ratios?: readonly number[];
  /** Median of the rounds'. */
  readonly ratio?: number;
}

async function bench(options: Options, signal: AbortSignal): Promise<void> {
  const { world, bytes, wire, iters, transport } = options;
  const spec: AllReduceSpec = { world, bytes, wire, iters, transport };
  const run: RunOptions = { timeoutMs: 1000 * options.timeout, signal };
  const script = peerScript(options);
  const ours: (readonly SizeResult[])[] = [];
  const peer: (readonly SizeResult[])[] = [];
  for (let round = 1; round <= (script === undefined ? 1 : options.rounds); round++) {
    ours.push(await runRanks(spec, run));
    if (script === undefined) continue;
    peer.push(await runGloo(spec, { python: options.python, script }, run));
    process.stderr.write(`round ${round} of ${options.rounds}\n`);
  }
  const rows = bytes.map((size, i) =>
    rowOf(
      size,
      ours.map((r) => r[i]!),
      peer.map((r) => r[i]!),
    ),
  );
  const text = options.json
    ? JSON.stringify({ world, wire, transport, results: rows })
    : table(rows);
  process.stdout.write(`${text}\n`);
}

/** @throws {FleetError} NOT_FOUND */
function peerScript({ peer }: Options): string | undefined {
  if (peer === undefined) return undefined;
  const script = path.resolve(peer === true ? DEFAULT_PEER : peer);
  if (!existsSync(script)) throw new FleetError("NOT_FOUND", `there is no peer ${script}`);
  return script;
}

function rowOf(bytes: number, ours: readonly SizeResult[], peer: readonly SizeResult[]): Row {
  const row = { bytes, ours: middle(ours) };
  if (peer.length === 0) return row;
  const ratios = ours.map((result, i) => Number((peer[i]!.median_s / result.median_s).toFixed(3)));
  return { ...row, peer: middle(peer), ratios, ratio: laterMedian(ratios) };
}

/** The round in the middle by its time. */
function middle(results: readonly SizeResult[]): SizeResult {
  const median = laterMedian(results.map(({ median_s }) => median_s));
  return results.find(({ median_s }) => median_s === median)!;
}

function table(rows: readonly Row[]): string {
  const lines = rows.map(({ bytes, ours, peer, ratio, ratios }) =>
    [
      String(bytes),
      milliseconds(ours),
      String(ours.busbw_MBps),
      ...(peer
        ? [milliseconds(peer), String(peer.busbw_MBps), `${ratio} (${ratios?.join(", ")})`]
        : []),
    ]
      .map((cell, column) => cell.padStart(WIDTHS[column] ?? 0))
      .join("  "),
  );
  const titles = TITLES.slice(0, rows[0]?.peer ? undefined : 3);
  return [titles.map((title, i) => title.padStart(WIDTHS[i] ?? 0)).join("  "), ...lines].join("\n");
}

const TITLES = ["bytes", "ms", "MB/s", "Gloo ms", "MB/s", "ratio (rounds)"];
const WIDTHS = [10, 9, 8, 9, 8, 14];

function milliseconds({ median_s }: SizeResult): string {
  return (1000 * median_s).toFixed(3);
}

function positive(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError("It is no positive number.");
  return Number(text);
}

function sizes(text: string): number[] {
  return text.split(",").map((size) => {
    const bytes = positive(size);
    if (bytes % 4 !== 0) throw new InvalidArgumentError(`${bytes} is no multiple of 4.`);
    return bytes;
  });
}

const command = new Command("bench:allreduce")
  .description("Measures the all-reduce of float32 buffers between ranks of this machine.")
  .option("--world <n>", "ranks, each a process", positive, 2)
  .option("--bytes <list>", "sizes of the buffers", sizes, [111875328, 26214400, 262144, 2048])
  .addOption(new Option("--wire <type>", "of large sums").choices(["f32", "bf16"]).default("f32"))
  .option("--iters <n>", "measured calls above 1 MiB; 40 times as many below", positive, 7)
  .addOption(new Option("--transport <name>", "of bulk data").choices(TRANSPORTS).default("auto"))
  .option("--peer [file]", `compare with this script (default: ${DEFAULT_PEER})`)
  .option("--python <file>", "interpreter of the peer", "python3")
  .option("--rounds <n>", "runs of ours and the peer in turn", positive, 3)
  .option("--timeout <seconds>", "longest time for one run of either", positive, 300)
  .option("--json", "print one JSON object");

await runBench<Options>(command, bench);
