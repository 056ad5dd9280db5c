/** A peer's script, in processes of its own. */

import { spawn } from "node:child_process";
import { FleetError } from "../../proto/errors.ts";
import { ProcessTree } from "./process-tree.ts";
import { type RunOptions, withinRun } from "./within-run.ts";

const POLL_MS = 200;
/** Of the end of what a script printed that failed. */
const SHOWN_LENGTH = 2000;

export interface PeerCommand {
  /** Interpreter. */
  readonly python: string;
  readonly script: string;
}

export interface ScriptEnd {
  readonly stdout: string;
  readonly isSuccess: boolean;
  /** Of the largest of its processes. */
  readonly peakRssMb: number;
  /** The error of a script that failed, or that printed no result. */
  failure(): FleetError;
}

/**
 * Runs a script to its end. Whatever happens, no process is left.
 *
 * @throws {FleetError} USAGE when it cannot be started; UNEXPECTED when it takes too long
 */
export async function runScript(
  python: string,
  args: readonly string[],
  options: RunOptions,
): Promise<ScriptEnd> {
  const child = spawn(python, args, { stdio: ["ignore", "pipe", "pipe"] });
  const tree = new ProcessTree(child.pid ?? Number.NaN);
  const poll = setInterval(() => tree.poll(), POLL_MS);
  // Ranks that outlive it would wait for one another, and hold its output open.
  child.once("exit", (code) => (code === 0 ? undefined : tree.kill()));
  const output = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name].setEncoding("utf8").on("data", (text: string) => {
      output[name] += text;
    });
  }
  const closed = new Promise<void>((resolve, reject) => {
    child.once("close", () => resolve());
    child.once("error", ({ message }) =>
      reject(new FleetError("USAGE", `cannot start ${python}: ${message}`)),
    );
  });
  try {
    await withinRun(closed, options, () => `the peer ${args[0]}`);
    const { exitCode, signalCode } = child;
    return {
      stdout: output.stdout,
      isSuccess: exitCode === 0,
      peakRssMb: tree.peakRssMb(),
      failure: () => {
        const end = `${output.stdout}${output.stderr}`.trim().slice(-SHOWN_LENGTH);
        const how = `ended with ${signalCode ?? `code ${exitCode}`}`;
        const what = exitCode === 0 ? "printed no result" : how;
        return new FleetError("UNEXPECTED", `the peer ${what}: ${end || "it said nothing"}`);
      },
    };
  } finally {
    clearInterval(poll);
    tree.kill();
    child.stdout.destroy();
    child.stderr.destroy();
    await closed.catch(() => {});
  }
}
