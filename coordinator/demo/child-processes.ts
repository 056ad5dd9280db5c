/**
 * The child processes of the demo: started together, and gone together.
 *
 * They stay in the demo's process group, so Ctrl-C in a terminal reaches them as well. That is
 * welcome but not relied on: {@link ChildProcesses.stop} signals each and waits until it has
 * exited.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { ERROR_SPECS, type ErrorCode, FleetError } from "../../proto/errors.ts";

/** Workers finish their step and write it down first; after that nobody waits any longer. */
const STOP_TIMEOUT_MS = 5_000;

export interface Child {
  /** First line that it writes to standard output. Rejects when a child ends before that. */
  firstLine(): Promise<string>;
}

type Environment = Readonly<Record<string, string | undefined>>;

export class ChildProcesses {
  readonly #children: { readonly name: string; readonly process: ChildProcess }[] = [];
  readonly #logFolder: string;
  readonly #env: Environment;
  #isStopping = false;
  #fail: (error: FleetError) => void = () => {};

  /**
   * Rejects as soon as a child ends that was not told to, with the code that its exit status stands
   * for; never resolves.
   */
  readonly failed: Promise<never>;

  /** @param logFolder exists; each child writes its standard error to a file there */
  constructor(logFolder: string, env: Environment) {
    this.#logFolder = logFolder;
    this.#env = env;
    this.failed = new Promise((_, reject) => {
      this.#fail = reject;
    });
    // Somebody may come to wait for it only later, or never.
    this.failed.catch(() => {});
  }

  /**
   * Starts a script under this Node.js.
   *
   * @param name for people, and of its log file
   * @throws {FleetError} GENERATION_ABORTED after stop()
   */
  start(
    name: string,
    commandLine: readonly string[],
    extraEnv: Readonly<Record<string, string>> = {},
  ): Child {
    if (this.#isStopping) throw new FleetError("GENERATION_ABORTED", "the demo is stopping");
    const log = openSync(this.#logFile(name), "a");
    const child = spawn(process.execPath, commandLine, {
      stdio: ["ignore", "pipe", log],
      env: { ...this.#env, ...extraEnv },
    });
    closeSync(log);
    this.#children.push({ name, process: child });
    child.once("error", (cause) =>
      this.#fail(new FleetError("UNEXPECTED", `cannot start the ${name}`, {}, cause)),
    );
    child.once("exit", (status, signal) => void this.#onExit(name, status, signal));
    const line = firstLine(child);
    return { firstLine: () => Promise.race([line, this.failed]) };
  }

  /** Asks every child to stop and waits until all have exited; those that do not are killed. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    await Promise.all(this.#children.map(({ process: child }) => end(child)));
  }

  /** Last resort of a process that is about to die: no waiting. */
  kill(): void {
    this.#isStopping = true;
    for (const { process: child } of this.#children) child.kill("SIGKILL");
  }

  async #onExit(name: string, status: number | null, signal: string | null): Promise<void> {
    if (this.#isStopping) return;
    const how = signal === null ? `ended with exit status ${status}` : `was ended by ${signal}`;
    const message = await errorLine(this.#logFile(name));
    const told = message ? `${name}: ${message}` : `the ${name} ${how}`;
    this.#fail(new FleetError(codeOf(status), told));
  }

  #logFile(name: string): string {
    return path.join(this.#logFolder, `${name.replaceAll(" ", "-")}.log`);
  }
}

/** What follows the line is read and dropped, so that the child never blocks on it. */
async function firstLine(child: ChildProcess): Promise<string> {
  let text = "";
  return await new Promise((resolve) => {
    child.stdout?.on("data", (chunk: Buffer) => {
      if (text.includes("\n")) return;
      text += chunk;
      if (text.includes("\n")) resolve(text.slice(0, text.indexOf("\n")));
    });
  });
}

async function end(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  const last = setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT_MS);
  child.kill("SIGTERM");
  await exited;
  clearTimeout(last);
}

/** What a command of ours last said about its failure, or the empty string. */
async function errorLine(logFile: string): Promise<string> {
  const text = await readFile(logFile, "utf8").catch(() => "");
  const lines = text.split("\n").filter((line) => line.startsWith("error: "));
  return lines.at(-1)?.slice("error: ".length) ?? "";
}

/** The first code of the table with this exit status. */
function codeOf(status: number | null): ErrorCode {
  const codes = Object.keys(ERROR_SPECS) as ErrorCode[];
  return codes.find((code) => ERROR_SPECS[code].exit === status) ?? "UNEXPECTED";
}
