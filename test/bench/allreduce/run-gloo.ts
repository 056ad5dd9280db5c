/** The other side: PyTorch's all-reduce over Gloo, in processes of its own, on the same task. */

import { spawn } from "node:child_process";
import { z } from "zod";
import { FleetError } from "../../../proto/errors.ts";
import { freePort } from "../../support/processes.ts";
import { ProcessTree } from "../process-tree.ts";
import { type RunOptions, withinRun } from "../within-run.ts";
import type { AllReduceSpec, SizeResult } from "./spec.ts";

/** Of the end of what a peer printed that failed. */
const SHOWN_LENGTH = 2000;
/** For its ranks to have been seen, should they have to be killed. */
const POLL_MS = 200;

const resultSchema = z.object({
  bytes: z.number().positive(),
  median_s: z.number().positive(),
  busbw_MBps: z.number().nonnegative(),
});

export interface PeerCommand {
  /** Interpreter. */
  readonly python: string;
  readonly script: string;
}

/**
 * Measures the peer. Whatever happens, no process is left.
 *
 * @throws {FleetError} USAGE when it cannot be started; UNEXPECTED when it fails, prints no results
 *   or takes too long
 */
export async function runGloo(
  { world, bytes, iters }: AllReduceSpec,
  { python, script }: PeerCommand,
  options: RunOptions,
): Promise<readonly SizeResult[]> {
  const values = { world, bytes: bytes.join(","), iters, port: await freePort() };
  const args = Object.entries(values).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const child = spawn(python, [script, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  const tree = new ProcessTree(child.pid ?? Number.NaN);
  const poll = setInterval(() => tree.poll(), POLL_MS);
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  const closed = new Promise<void>((resolve, reject) => {
    child.once("close", () => resolve());
    child.once("error", ({ message }) =>
      reject(new FleetError("USAGE", `cannot start ${python}: ${message}`)),
    );
  });
  try {
    await withinRun(closed, options, () => `the peer ${script} is still at it`);
    const results = stdout.split("\n").flatMap((line) => parsed(line));
    if (child.exitCode === 0 && results.length === bytes.length) return results;
    const end = `${stdout}${stderr}`.trim().slice(-SHOWN_LENGTH);
    throw new FleetError("UNEXPECTED", `the peer ended with code ${child.exitCode}: ${end}`);
  } finally {
    clearInterval(poll);
    tree.kill();
    child.stdout.destroy();
    child.stderr.destroy();
    await closed.catch(() => {});
  }
}

function parsed(line: string): SizeResult[] {
  try {
    return [resultSchema.parse(JSON.parse(line))];
  } catch {
    return [];
  }
}
