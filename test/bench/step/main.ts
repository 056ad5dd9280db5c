/** `npm run bench:step -- [--engine E] ...`: how long a whole pre-training step takes. */

import { existsSync } from "node:fs";
import path from "node:path";
import { Command, InvalidArgumentError, Option } from "commander";
import { FleetError } from "../../../proto/errors.ts";
import { runBench } from "../bench-command.ts";
import type { PeerCommand } from "../run-script.ts";
import { STEPS_PER_TURN } from "./check-costs.ts";
import { type Comparison, compare, type Round } from "./compare.ts";
import type { StepMeasurement } from "./measurement.ts";
import { runPeer } from "./run-peer.ts";
import { runRanks } from "./run-ranks.ts";
import {
  ARCHS,
  CIFAR_SIZE_MAX,
  PRECISIONS,
  STEMS,
  type StepSpec,
  stepRecipe,
} from "./step-spec.ts";
import { comparisonTable, profileTable, roundLine, stepTable } from "./tables.ts";

const DEFAULT_PEER = "../shared/peers/torch_simclr.py";

interface Options extends Omit<StepSpec, "stem" | "syncBn" | "checks"> {
  readonly stem?: StepSpec["stem"];
  readonly syncBn?: true;
  readonly checks?: true;
  readonly json?: true;
  readonly profile?: true;
  readonly scaling?: true;
  readonly peer?: string | true;
  readonly python: string;
  readonly rounds: number;
  /** Seconds. */
  readonly timeout: number;
}

async function bench(options: Options, signal: AbortSignal): Promise<void> {
  const spec = specOf(options);
  const run = { timeoutMs: 1000 * options.timeout, signal };
  const profile = options.profile === true;
  const scaling = isScaling(options);
  const script = peerScript(options);
  const runOurs = (world: number) => runRanks({ ...spec, world }, { ...run, profile });
  if (script === undefined && !scaling) {
    const ours = await runOurs(spec.world);
    const tables = [stepTable(spec, ours), ...(profile ? [profileTable(ours)] : [])];
    print(options, jsonOf(spec, ours), tables.join("\n\n"));
    return;
  }
  const { python, rounds } = options;
  const runScript = (command: PeerCommand) => (world: number) =>
    runPeer({ ...spec, world }, command, run);
  const runs = {
    ours: runOurs,
    ...(script !== undefined && { peer: runScript({ python, script }) }),
  };
  let done = 0;
  const onRound = (round: Round): void => {
    process.stderr.write(`round ${++done} of ${rounds}: ${roundLine(round)}\n`);
  };
  const found = await compare(runs, { world: spec.world, scaling, rounds, onRound });
  print(options, jsonOf(spec, found.ours, found), comparisonTable(spec, found));
}

/** @throws {FleetError} USAGE, RECIPE_INVALID when the network cannot take such images */
function specOf(options: Options): StepSpec {
  const { engine, arch, size, batch, world, threads, precision, steps, warmup } = options;
  const stem = options.stem ?? (size <= CIFAR_SIZE_MAX ? "cifar" : "imagenet");
  const syncBn = options.syncBn === true;
  const checks = isCheckCosts(options);
  const sizes = { size, batch, world, threads, steps, warmup };
  const spec = { engine, arch, stem, precision, syncBn, checks, ...sizes };
  stepRecipe(spec);
  return spec;
}

/** @throws {FleetError} USAGE */
function isCheckCosts({ checks, steps, peer, scaling }: Options): boolean {
  if (!checks) return false;
  if (peer || scaling) {
    throw new FleetError("USAGE", "--checks varies our steps: not together with --peer, --scaling");
  }
  if (steps < STEPS_PER_TURN) {
    throw new FleetError("USAGE", `--checks takes turns of ${STEPS_PER_TURN} --steps`);
  }
  return true;
}

/** @throws {FleetError} USAGE */
function isScaling({ scaling, profile, world }: Options): boolean {
  if (!scaling) return false;
  if (profile)
    throw new FleetError("USAGE", "--profile slows us down: not together with --scaling");
  if (world === 1) throw new FleetError("USAGE", "--scaling compares --world 2 or more with 1");
  return true;
}

/** @throws {FleetError} USAGE, NOT_FOUND */
function peerScript({ peer, profile, syncBn }: Options): string | undefined {
  if (peer === undefined) return undefined;
  if (profile) throw new FleetError("USAGE", "--profile slows us down: not together with --peer");
  if (syncBn) throw new FleetError("USAGE", "the peer's batch norm is local: --sync-bn is unfair");
  const script = path.resolve(peer === true ? DEFAULT_PEER : peer);
  if (!existsSync(script)) throw new FleetError("NOT_FOUND", `there is no peer ${script}`);
  return script;
}

function jsonOf(spec: StepSpec, ours: StepMeasurement, found?: Comparison): object {
  const { engine: _, syncBn: sync_bn, checks: _checks, ...task } = spec;
  const { engine, device, ...figures } = ours;
  const { ours: _ours, ...comparison } = found ?? {};
  return { engine, device, ...task, sync_bn, ...figures, ...comparison };
}

function print({ json }: Options, result: object, table: string): void {
  process.stdout.write(`${json ? JSON.stringify(result) : table}\n`);
}

function positive(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError("It is no positive number.");
  return Number(text);
}

function natural(text: string): number {
  return text === "0" ? 0 : positive(text);
}

const command = new Command("bench:step")
  .description(
    "Measures the whole pre-training step on synthetic images, on ranks of this machine.",
  )
  .option("--engine <name>", "compute engine, e.g. tfjs:wasm", "auto")
  .addOption(new Option("--arch <name>", "network").choices(ARCHS).default("resnet50"))
  .addOption(
    new Option("--stem <name>", `default: cifar up to ${CIFAR_SIZE_MAX} pixels`).choices(STEMS),
  )
  .option("--size <pixels>", "edge of the images", positive, 224)
  .option("--batch <n>", "source images per rank; each is encoded twice", positive, 8)
  .option("--world <n>", "ranks, each a process", positive, 1)
  .option("--threads <n>", "CPU threads of each rank's engine", positive, 1)
  .addOption(new Option("--precision <type>", "of the engine").choices(PRECISIONS).default("f32"))
  .option("--steps <n>", "steps to measure", positive, 5)
  .option("--warmup <n>", "steps before them", natural, 2)
  .option("--sync-bn", "batch norm over all ranks")
  .option("--checks", "also measure what looking for NaN and comparing replicas costs")
  .option("--profile", "also list rank 0's operations by their time")
  .option("--peer [file]", `compare with this script (default: ${DEFAULT_PEER})`)
  .option("--python <file>", "interpreter of the peer", "python3")
  .option("--scaling", "also measure a single rank, and compare their step times")
  .option("--rounds <n>", "with --peer or --scaling: how often all run in turn", positive, 3)
  .option("--timeout <seconds>", "longest time for one run of either", positive, 1800)
  .option("--json", "print one JSON object");

await runBench<Options>(command, bench);
