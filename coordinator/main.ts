#!/usr/bin/env node
/** The `coordinator` command. The only file of this side that touches the process. */

import { readFileSync } from "node:fs";
import type { CliContext, Output } from "./cli/cli-context.ts";
import { runProgram } from "./cli/run-program.ts";

const SIGNAL_EXITS = { SIGINT: 130, SIGTERM: 143 } as const;

/** npx starts a command through a shell, and passes no signal on to it. */
const IS_UNDER_NPX = process.env["npm_command"] === "exec";
const PARENT_POLL_MS = 250;

// grpc-js names a server that is called by its address in a way that Node.js will ignore some day.
// With that nothing is wrong, and nobody who runs a command can change it.
Object.assign(process, { noDeprecation: true });

const context: CliContext = {
  env: process.env,
  stdout: toOutput(process.stdout),
  stderr: toOutput(process.stderr),
  onStopSignal: (handler) => {
    let isFirst = true;
    const stop = (signal: keyof typeof SIGNAL_EXITS): void => {
      if (!isFirst) process.exit(SIGNAL_EXITS[signal]);
      isFirst = false;
      handler(signal);
    };
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => stop(signal));
    if (!isHangupIgnored()) process.on("SIGHUP", () => stop("SIGTERM"));
    // That is no second request: whatever is being stopped may take its time.
    if (IS_UNDER_NPX) onParentGone(() => isFirst && stop("SIGTERM"));
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

/** Under nohup a hangup is ignored, and listening to it would undo that. Known on Linux only. */
function isHangupIgnored(): boolean {
  try {
    const mask = /^SigIgn:\s+([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1];
    return (BigInt(`0x${mask ?? 0}`) & 1n) === 1n;
  } catch {
    return false;
  }
}

/** Calls `handler` once the process that started this one has ended. */
function onParentGone(handler: () => void): void {
  const parent = process.ppid;
  const poll = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(poll);
    handler();
  }, PARENT_POLL_MS);
  poll.unref();
}
