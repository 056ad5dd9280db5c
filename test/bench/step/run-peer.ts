/** The other side: the peer's script, in processes of its own, on the same task. */

import { type ChildProcess, type ChildProcessByStdio, spawn } from "node:child_process";
import path from "node:path";
import type { Readable } from "node:stream";
import { z } from "zod";
import { FleetError } from "../../../proto/errors.ts";
import { freePort } from "../../support/processes.ts";
import { ROOT } from "../../support/sources.ts";
import { ProcessTree } from "../process-tree.ts";
import { type RunOptions, withinRun } from "../within-run.ts";
import { type Figures, round } from "./measurement.ts";
import type { StepSpec } from "./step-spec.ts";

const POLL_MS = 200;
/** Of the end of what a peer printed that failed. */
const SHOWN_LENGTH = 2000;

/** Read from the sources: the build copies no Python. */
const CIFAR_PEER = path.join(ROOT, "test/bench/step/torch_simclr_cifar.py");

const resultSchema = z.object({
  step_s: z.number().positive(),
  images_per_s: z.number().positive(),
  loss: z.number(),
});

export interface PeerCommand {
  /** Interpreter. */
  readonly python: string;
  readonly script: string;
}

/**
 * Measures the peer's step. Whatever happens, no process is left.
 *
 * @throws {FleetError} USAGE when it cannot be started; UNEXPECTED when it fails, prints no result
 *   or takes too long
 */
export async function runPeer(
  spec: StepSpec,
  { python, script }: PeerCommand,
  options: RunOptions,
): Promise<Figures> {
  const args = peerArguments(spec, script, await freePort());
  const child = spawn(python, args, { stdio: ["ignore", "pipe", "pipe"] });
  const tree = new ProcessTree(child.pid ?? Number.NaN);
  const poll = setInterval(() => tree.poll(), POLL_MS);
  // Ranks that outlive it would wait for one another, and hold its output open.
  child.once("exit", (code) => (code === 0 ? undefined : tree.kill()));
  const output = collect(child);
  const closed = new Promise<void>((resolve, reject) => {
    child.once("close", () => resolve());
    child.once("error", ({ message }) =>
      reject(new FleetError("USAGE", `cannot start ${python}: ${message}`)),
    );
  });
  try {
    await withinRun(closed, options, () => `the peer ${script}`);
    return { ...figuresOf(output, child), peak_rss_mb: round(tree.peakRssMb(), 1) };
  } finally {
    clearInterval(poll);
    tree.kill();
    child.stdout.destroy();
    child.stderr.destroy();
    await closed.catch(() => {});
  }
}

function peerArguments(spec: StepSpec, script: string, port: number): string[] {
  const { arch, size, batch, world, threads, precision: dtype, steps, warmup } = spec;
  const values = { arch, size, batch, world, threads, dtype, steps, warmup, port };
  const options = Object.entries(values).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const files = spec.stem === "cifar" ? [CIFAR_PEER, script] : [script];
  return [...files, ...options];
}

interface Output {
  stdout: string;
  stderr: string;
}

function collect(child: ChildProcessByStdio<null, Readable, Readable>): Output {
  const output = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name].setEncoding("utf8").on("data", (text: string) => {
      output[name] += text;
    });
  }
  return output;
}

function figuresOf({ stdout, stderr }: Output, { exitCode, signalCode }: ChildProcess) {
  const line = stdout.split("\n").findLast((text) => text.startsWith("{")) ?? "";
  const printed = resultSchema.safeParse(parseJson(line));
  if (exitCode === 0 && printed.success) return printed.data;
  const end = `${stdout}${stderr}`.trim().slice(-SHOWN_LENGTH);
  const what =
    exitCode === 0 ? "printed no result" : `ended with ${signalCode ?? `code ${exitCode}`}`;
  throw new FleetError("UNEXPECTED", `the peer ${what}: ${end || "it said nothing"}`);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
