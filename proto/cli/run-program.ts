/** A command of several subcommands, and what happens to its errors. */

import { Command, CommanderError } from "commander";
import { ERROR_SPECS } from "../errors.ts";
import { SOFTWARE_VERSION } from "../version.ts";
import { type CliContext, type RegisterCommand, reportError } from "./cli-context.ts";

export interface CliProgram {
  readonly name: string;
  readonly description: string;
  /** In the order of the help. */
  readonly commands: readonly RegisterCommand[];
}

/** Runs one command line, without the names of node and of the script. Never rejects. */
export async function runProgram(
  { name, description, commands }: CliProgram,
  commandLine: readonly string[],
  context: CliContext,
): Promise<void> {
  const program = new Command(name)
    .description(description)
    .version(SOFTWARE_VERSION)
    .addHelpText("after", `\nExit status:\n${exitTable()}`);
  for (const register of commands) register(program, context);
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
