/** `npm run bench:recovery -- [--peer] ...`: from a worker's death to the next step. */

import { existsSync } from "node:fs";
import path from "node:path";
import { Command } from "commander";
import { positiveCount } from "../../../proto/cli/option-values.ts";
import { FleetError } from "../../../proto/errors.ts";
import { runBench } from "../bench-command.ts";
import { laterMedian } from "../step/measurement.ts";
import { runOurs } from "./run-ours.ts";
import { runTorchrun } from "./run-torchrun.ts";
import type { RecoverySpec } from "./spec.ts";

const DEFAULT_PEER = "test/bench/recovery/torch_recovery.py";

interface Options extends Omit<RecoverySpec, "width"> {
  readonly engine: string;
  readonly rounds: number;
  readonly peer?: string | true;
  readonly python: string;
  /** Seconds. */
  readonly timeout: number;
  readonly tiny?: true;
  readonly json?: true;
}

/** Seconds over all rounds. */
interface Figures {
  readonly median_s: number;
  readonly least_s: number;
  readonly most_s: number;
  readonly seconds: readonly number[];
}

async function bench(options: Options, signal: AbortSignal): Promise<void> {
  const { world, batch, size, kills, engine, rounds, python } = options;
  const spec = { world, batch, size, kills, width: options.tiny ? 0.0625 : 1, engine };
  const script = peerScript(options);
  const run = { timeoutMs: 1000 * options.timeout, signal };
  const ours: number[][] = [];
  const peer: number[][] = [];
  for (let round = 1; round <= rounds; round++) {
    ours.push([...(await runOurs(spec, run))]);
    if (script) peer.push([...(await runTorchrun(spec, { python, script }, run))]);
    process.stderr.write(`round ${round} of ${rounds}\n`);
  }
  const ratios = peer.map((each, i) => round3(laterMedian(each) / laterMedian(ours[i]!)));
  const result = {
    ours: figuresOf(ours.flat()),
    ...(script && { peer: figuresOf(peer.flat()), ratios, ratio: laterMedian(ratios) }),
  };
  const task = { world, batch, size, kills, rounds };
  process.stdout.write(
    options.json ? `${JSON.stringify({ ...task, ...result })}\n` : table(result),
  );
}

/** @throws {FleetError} NOT_FOUND */
function peerScript({ peer }: Options): string | undefined {
  if (peer === undefined) return undefined;
  const script = path.resolve(peer === true ? DEFAULT_PEER : peer);
  if (!existsSync(script)) throw new FleetError("NOT_FOUND", `there is no peer ${script}`);
  return script;
}

function figuresOf(seconds: readonly number[]): Figures {
  return {
    median_s: round3(laterMedian(seconds)),
    least_s: round3(Math.min(...seconds)),
    most_s: round3(Math.max(...seconds)),
    seconds: seconds.map(round3),
  };
}

function table(result: {
  readonly ours: Figures;
  readonly peer?: Figures;
  readonly ratios?: readonly number[];
  readonly ratio?: number;
}): string {
  const line = (who: string, { median_s, least_s, most_s }: Figures): string =>
    `${who.padEnd(9)} ${median_s} s to the next step (${least_s} to ${most_s})\n`;
  const { ours, peer, ratio, ratios } = result;
  if (!peer) return line("ours", ours);
  const compared = `ratio     ${ratio} (${ratios?.join(", ")})\n`;
  return `${line("ours", ours)}${line("torchrun", peer)}${compared}`;
}

function round3(value: number): number {
  return Number(value.toFixed(3));
}

const command = new Command("bench:recovery")
  .description("Measures the time from a worker's SIGKILL to the next applied step of its gang.")
  .option("--world <n>", "ranks", positiveCount, 2)
  .option("--batch <n>", "images of each rank in a step", positiveCount, 8)
  .option("--size <pixels>", "edge of the images", positiveCount, 32)
  .option("--kills <n>", "workers killed in each round", positiveCount, 3)
  .option("--rounds <n>", "fresh starts, of ours and the peer in turn", positiveCount, 3)
  .option("--engine <name>", "of our workers", "auto")
  .option("--tiny", "a network of hardly any width, on our side only")
  .option("--peer [file]", `compare with this script (default: ${DEFAULT_PEER})`)
  .option("--python <file>", "interpreter of the peer, with torch", "python3")
  .option("--timeout <seconds>", "longest time for one round of either", positiveCount, 600)
  .option("--json", "print one JSON object");

await runBench<Options>(command, bench);
