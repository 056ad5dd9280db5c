/** `npm run golden -- DIR [--engine E]`: reference cases, one line each. */

import { availableParallelism } from "node:os";
import { Command, CommanderError, Option } from "commander";
import { FleetError } from "../../proto/errors.ts";
import type { Precision } from "../engine/engine.ts";
import { openEngine } from "../engine/open-engine.ts";
import { listCases } from "./golden-folder.ts";
import { runCase } from "./run-case.ts";

interface GoldenOptions {
  readonly engine: string;
  readonly precision: Precision;
}

/** @returns the exit status: 0 when there were cases and all passed, else 1 */
async function golden(folder: string, options: GoldenOptions): Promise<number> {
  const names = listCases(folder);
  const { precision } = options;
  const threads = availableParallelism();
  const { engine, notes } = await openEngine(options.engine, { threads, precision });
  for (const note of notes) process.stderr.write(`${note}\n`);
  try {
    const reports = names.map((name) => {
      const report = runCase({ engine, precision }, folder, name);
      process.stdout.write(`${report.line}\n`);
      return report;
    });
    return reports.every(({ passed }) => passed) ? 0 : 1;
  } finally {
    engine.close();
  }
}

const command = new Command("golden")
  .description("Runs every reference case of a folder and prints the worst error by quantity.")
  .argument("<folder>", "holds <case>.json and <case>.safetensors")
  .option("--engine <name>", "compute engine, e.g. tfjs:wasm", "auto")
  .addOption(
    new Option("--precision <type>", "of the engine").choices(["f32", "bf16"]).default("f32"),
  )
  .exitOverride();

try {
  command.parse();
  const [folder] = command.processedArgs as [string];
  process.exitCode = await golden(folder, command.opts<GoldenOptions>());
} catch (thrown) {
  if (thrown instanceof CommanderError) {
    process.exitCode = thrown.exitCode === 0 ? 0 : new FleetError("USAGE", thrown.message).exit;
  } else {
    const { code, message, exit } = FleetError.from(thrown);
    process.stderr.write(`golden: ${code}: ${message}\n`);
    process.exitCode = exit;
  }
}
