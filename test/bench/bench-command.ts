/** What every bench does with its command line, with signals, and with errors. */

import { type Command, CommanderError } from "commander";
import { FleetError } from "../../proto/errors.ts";

/** Runs the bench; an error becomes one line and the exit status of its kind. */
export async function runBench<Options extends object>(
  command: Command,
  bench: (options: Options, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const interrupt = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    process.once(name, () => interrupt.abort(new FleetError("UNEXPECTED", `ended by ${name}`)));
  }
  try {
    command.exitOverride().parse();
    await bench(command.opts<Options>(), interrupt.signal);
  } catch (thrown) {
    if (thrown instanceof CommanderError) {
      process.exitCode = thrown.exitCode === 0 ? 0 : new FleetError("USAGE", thrown.message).exit;
    } else {
      const { code, message, exit } = FleetError.from(thrown);
      process.stderr.write(`${command.name()}: ${code}: ${message}\n`);
      process.exitCode = exit;
    }
  }
}
