/** `npm run chaos -- [--minutes N] ...`: proves that nothing kills a run. */

import { Command, InvalidArgumentError } from "commander";
import { positiveCount, wholeNumber } from "../../proto/cli/option-values.ts";
import { FleetError } from "../../proto/errors.ts";
import { runBench } from "../bench/bench-command.ts";
import { tempDir } from "../support/processes.ts";
import { isSound, table } from "./chaos-table.ts";
import { FAULT_KINDS, type FaultKind } from "./faults.ts";
import { type ChaosOptions, runChaos } from "./run-chaos.ts";

interface Options extends Omit<ChaosOptions, "deadlineMs"> {
  /** Seconds. */
  readonly deadline: number;
  readonly keep?: true;
  readonly json?: true;
}

async function chaos(
  { deadline, keep, json, ...rest }: Options,
  signal: AbortSignal,
): Promise<void> {
  const { dir, remove } = await tempDir();
  const started = performance.now();
  const say = (line: string): void => {
    const seconds = ((performance.now() - started) / 1000).toFixed(0).padStart(5);
    process.stderr.write(`${seconds} s  ${line}\n`);
  };
  try {
    say(`seed ${rest.seed}, everything in ${dir}`);
    const options = { ...rest, deadlineMs: 1000 * deadline };
    const report = await runChaos(options, { dir, signal, say });
    process.stdout.write(json ? `${JSON.stringify(report)}\n` : table(report));
    if (!isSound(report)) throw new FleetError("UNEXPECTED", "something is off; see above");
  } finally {
    if (!keep) await remove();
  }
}

function kinds(text: string): FaultKind[] {
  return text.split(",").map((name) => {
    const kind = FAULT_KINDS.find((each) => each === name.trim());
    if (kind) return kind;
    throw new InvalidArgumentError(`Kinds are ${FAULT_KINDS.join(", ")}.`);
  });
}

function share(text: string): number {
  const value = Number(text);
  if (text.trim() !== "" && value >= 0 && value <= 1) return value;
  throw new InvalidArgumentError("It is a number from 0 to 1.");
}

const command = new Command("chaos")
  .description("Runs experiments under fire, and compares them with one that was left in peace.")
  .option("--minutes <n>", "how long faults are made, after the undisturbed run", positiveCount, 10)
  .option("--faults <n>", "at most so many", positiveCount, 1_000_000)
  .option("--kinds <list>", "of faults, with commas between them", kinds, FAULT_KINDS)
  .option("--together <share>", "how often, 0 to 1, two come at once", share, 0.2)
  .option("--seed <n>", "decides which faults come when", wholeNumber, Date.now() % 1_000_000)
  .option("--workers <n>", "world size of the gang", positiveCount, 4)
  .option("--spares <n>", "workers that wait beside it", wholeNumber, 1)
  .option("--coordinators <n>", "a leader and its standbys", positiveCount, 2)
  .option("--epochs <n>", "of pre-training, in each experiment", positiveCount, 40)
  .option("--deadline <seconds>", "longest recovery", positiveCount, 180)
  .option("--engine <name>", "of the workers", "auto")
  .option("--keep", "leave all files where they are")
  .option("--json", "print one JSON object");

await runBench<Options>(command, chaos);
