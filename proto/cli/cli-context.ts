/**
 * What a command may touch of its process: main.ts hands it over, so that no command reaches out.
 */

import type { Command } from "commander";
import { FleetError } from "../errors.ts";

export interface Output {
  write(text: string): void;
  readonly isTTY: boolean;
  /** Width of the terminal. */
  readonly columns: number;
}

export interface CliContext {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Sets a variable that native libraries read when they are loaded, unless the user has. */
  setEnvDefault(name: string, value: string): void;
  readonly stdout: Output;
  readonly stderr: Output;
  /**
   * Calls `handler` on the first SIGINT or SIGTERM, with the exit status that such an end is to
   * have; a second one ends the process at once.
   */
  onStopSignal(handler: (signal: "SIGINT" | "SIGTERM", exit: number) => void): void;
  /** Calls `handler` when the process ends, for whatever reason; it cannot wait for anything. */
  onExit(handler: () => void): void;
  /** The exit status of the command, once it has come to its end. */
  setExitCode(code: number): void;
  /** Ends the process at once. */
  exit(code: number): never;
}

/** Adds one subcommand to the program. */
export type RegisterCommand = (program: Command, context: CliContext) => void;

/** Prints an error as one line, with the stack for those who asked for it, and for defects. */
export function reportError(thrown: unknown, context: CliContext, logLevel: string): void {
  const error = FleetError.from(thrown);
  const isVerbose = logLevel === "debug" || logLevel === "trace" || error.code === "UNEXPECTED";
  const trace = isVerbose && thrown instanceof Error ? `${thrown.stack}\n` : "";
  context.stderr.write(`error: ${error.message.replaceAll(/\s*\n\s*/g, " ")}\n${trace}`);
  context.setExitCode(error.exit);
}

/** Runs a command's work and turns whatever it throws into a message and an exit status. */
export async function runCommand(
  context: CliContext,
  logLevel: string,
  work: () => Promise<void>,
): Promise<void> {
  try {
    await work();
  } catch (thrown) {
    reportError(thrown, context, logLevel);
  }
}

/** One JSON document on standard output. */
export function printJson(context: CliContext, value: unknown): void {
  context.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}
