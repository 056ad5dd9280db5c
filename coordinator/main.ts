#!/usr/bin/env node
/** The `coordinator` command. The only file of this side that touches the process. */

import type { CliContext, Output } from "./cli/cli-context.ts";
import { runProgram } from "./cli/run-program.ts";

const SIGNAL_EXITS = { SIGINT: 130, SIGTERM: 143 } as const;

const context: CliContext = {
  env: process.env,
  stdout: toOutput(process.stdout),
  stderr: toOutput(process.stderr),
  onStopSignal: (handler) => {
    let isFirst = true;
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      process.on(signal, () => {
        if (!isFirst) process.exit(SIGNAL_EXITS[signal]);
        isFirst = false;
        handler(signal);
      });
    }
  },
  onExit: (handler) => {
    process.on("exit", handler);
  },
  setExitCode: (code) => {
    process.exitCode = code;
  },
};

// A reader that has seen enough (`coordinator list | head -1`) is no error.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  process.exit(error.code === "EPIPE" ? 0 : 1);
});

await runProgram(process.argv.slice(2), context);

function toOutput(stream: NodeJS.WriteStream): Output {
  return {
    write: (text) => {
      stream.write(text);
    },
    get isTTY() {
      return stream.isTTY === true;
    },
    get columns() {
      return stream.columns ?? 80;
    },
  };
}
