/** `npm run golden -- DIR [--engine E]`: reference cases, one line each. */

import { availableParallelism } from "node:os";
import { Command, CommanderError } from "commander";
import { FleetError } from "../../proto/errors.ts";
import { openEngine } from "../engine/open-engine.ts";
import { listCases } from "./golden-folder.ts";
import { runCase } from "./run-case.ts";

/** @returns the exit status: 0 when there were cases and all passed, else 1 */
async function golden(folder: string, engineName: string): Promise<number> {
  const names = listCases(folder);
  const { engine, notes } = await openEngine(engineName, { threads: availableParallelism() });
  for (const note of notes) process.stderr.write(`${note}\n`);
  try {
    const reports = names.map((name) => {
      const report = runCase(engine, folder, name);
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
  .exitOverride();

try {
  command.parse();
  const [folder] = command.processedArgs as [string];
  process.exitCode = await golden(folder, command.opts<{ engine: string }>().engine);
} catch (thrown) {
  if (thrown instanceof CommanderError) {
    process.exitCode = thrown.exitCode === 0 ? 0 : new FleetError("USAGE", thrown.message).exit;
  } else {
    const { code, message, exit } = FleetError.from(thrown);
    process.stderr.write(`golden: ${code}: ${message}\n`);
    process.exitCode = exit;
  }
}
