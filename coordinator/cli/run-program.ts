/** The `coordinator` command: its subcommands, and what happens to errors. */

import { Command, CommanderError } from "commander";
import { ERROR_SPECS } from "../../proto/errors.ts";
import { SOFTWARE_VERSION } from "../../proto/version.ts";
import { registerDemo } from "../demo/demo.ts";
import { type CliContext, type RegisterCommand, reportError } from "./cli-context.ts";
import { registerCancel, registerList, registerRetry, registerShow } from "./experiments.ts";
import { registerRecipes } from "./recipes.ts";
import { registerStart } from "./start.ts";
import { registerSubmit } from "./submit.ts";
import { registerWatch } from "./watch.ts";
import { registerWorkers } from "./workers.ts";

const COMMANDS: readonly RegisterCommand[] = [
  registerDemo,
  registerStart,
  registerSubmit,
  registerList,
  registerShow,
  registerWatch,
  registerCancel,
  registerRetry,
  registerWorkers,
  registerRecipes,
];

/** Runs one command line, without the names of node and of the script. Never rejects. */
export async function runProgram(
  commandLine: readonly string[],
  context: CliContext,
): Promise<void> {
  const program = new Command("coordinator")
    .description("SimCLR pre-training and linear evaluation over a fleet of workers")
    .version(SOFTWARE_VERSION)
    .addHelpText("after", `\nExit status:\n${exitTable()}`);
  for (const register of COMMANDS) register(program, context);
  for (const command of [program, ...program.commands]) configure(command, context);

  try {
    await program.parseAsync(commandLine, { from: "user" });
  } catch (thrown) {
    if (!(thrown instanceof CommanderError)) return reportError(thrown, context, "info");
    // Commander has printed its own message; help and version are no errors.
    if (thrown.exitCode !== 0) context.setExitCode(ERROR_SPECS.USAGE.exit);
  }
}

function configure(command: Command, { stdout, stderr }: CliContext): void {
  command.exitOverride().configureOutput({
    writeOut: (text) => stdout.write(text),
    writeErr: (text) => stderr.write(text),
    // One line for an error, also where Commander adds what was probably meant.
    outputError: (text, write) => write(`${text.trim().replaceAll(/\s*\n\s*/g, " ")}\n`),
  });
}

function exitTable(): string {
  const byExit = new Map<number, string[]>();
  for (const { exit, meaning } of Object.values(ERROR_SPECS)) {
    byExit.set(exit, [...(byExit.get(exit) ?? []), meaning]);
  }
  const rows = [...byExit].flatMap(([exit, meanings]) =>
    meanings.map((meaning) => `  ${String(exit).padStart(2)}  ${meaning}\n`),
  );
  return rows.join("");
}
