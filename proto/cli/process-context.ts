/** What a command may touch of its process, made of the real one that main.ts hands over. */

import { readFileSync } from "node:fs";
import type { CliContext, Output } from "./cli-context.ts";

const SIGNAL_EXITS = { SIGINT: 130, SIGTERM: 143 } as const;
type StopSignal = keyof typeof SIGNAL_EXITS;

const PARENT_POLL_MS = 250;

/** Prepares the process for a command, and gives it to it. */
export function openProcessContext(host: NodeJS.Process): CliContext {
  // grpc-js names a server that is called by its address in a way that Node.js will ignore some
  // day. With that nothing is wrong, and nobody who runs a command can change it.
  Object.assign(host, { noDeprecation: true });
  // A reader that has seen enough (`coordinator list | head -1`) is no error.
  host.stdout.on("error", (error: NodeJS.ErrnoException) => {
    host.exit(error.code === "EPIPE" ? 0 : 1);
  });
  return {
    env: host.env,
    setEnvDefault: (name, value) => {
      host.env[name] ??= value;
    },
    stdout: toOutput(host.stdout),
    stderr: toOutput(host.stderr),
    onStopSignal: (handler) => watchStopSignals(host, handler),
    onExit: (handler) => {
      host.on("exit", handler);
    },
    setExitCode: (code) => {
      host.exitCode = code;
    },
    exit: (code) => host.exit(code),
  };
}

function watchStopSignals(
  host: NodeJS.Process,
  handler: (signal: StopSignal, exit: number) => void,
): void {
  let isFirst = true;
  const stop = (signal: StopSignal): void => {
    if (!isFirst) host.exit(SIGNAL_EXITS[signal]);
    isFirst = false;
    handler(signal, SIGNAL_EXITS[signal]);
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const) host.on(signal, () => stop(signal));
  if (!isHangupIgnored()) host.on("SIGHUP", () => stop("SIGTERM"));
  // npx starts a command through a shell, and passes no signal on to it. That its parent has gone
  // is no second request: whatever is being stopped may take its time.
  if (host.env["npm_command"] === "exec") onParentGone(host, () => isFirst && stop("SIGTERM"));
}

function toOutput(stream: NodeJS.WriteStream): Output {
  return {
    write: (text) => {
      stream.write(text);
    },
    get isTTY() {
      return stream.isTTY === true;
    },
    get columns() {
      // A terminal that does not know its width says 0.
      return stream.columns || 80;
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
function onParentGone(host: NodeJS.Process, handler: () => void): void {
  const parent = host.ppid;
  const poll = setInterval(() => {
    if (host.ppid === parent) return;
    clearInterval(poll);
    handler();
  }, PARENT_POLL_MS);
  // A command that has come to its end does not stay for its parent.
  poll.unref();
}
