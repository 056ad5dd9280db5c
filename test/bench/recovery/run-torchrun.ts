/** The other side: PyTorch under torchrun, which restarts all ranks from the last checkpoint. */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { z } from "zod";
import { FleetError } from "../../../proto/errors.ts";
import { tempDir } from "../../support/processes.ts";
import { until } from "../../support/until.ts";
import { ProcessTree } from "../process-tree.ts";
import type { PeerCommand } from "../run-script.ts";
import { type RunOptions, withinRun } from "../within-run.ts";
import { type Recoveries, type RecoverySpec, STEP_TIMEOUT_MS, STEPS_BEFORE_KILL } from "./spec.ts";

const lineSchema = z.object({ step: z.int(), rank: z.int(), pid: z.int() });
type Line = z.infer<typeof lineSchema>;

/** Of the end of what the peer printed that failed. */
const SHOWN_LENGTH = 2000;

/**
 * Runs the peer, kills ranks, and takes it down. Whatever happens, no process is left.
 *
 * @throws {FleetError} USAGE when it cannot be started; UNEXPECTED when it fails or takes too long
 */
export async function runTorchrun(
  spec: RecoverySpec,
  { python, script }: PeerCommand,
  options: RunOptions,
): Promise<Recoveries> {
  const { dir, remove } = await tempDir();
  const log = path.join(dir, "log");
  const { world, batch, size } = spec;
  const checkpoint = path.join(dir, "checkpoint.pt");
  const values = { world, threads: 1, batch, size, lines: log, checkpoint };
  const args = Object.entries(values).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const child = spawn(python, [script, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    // Where torchrun leaves a folder when it is killed.
    env: { ...process.env, TMPDIR: dir },
  });
  let printed = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      printed = `${printed}${text}`.slice(-SHOWN_LENGTH);
    });
  }
  const ended = new Promise<never>((_, reject) => {
    child.once("error", ({ message }) =>
      reject(new FleetError("USAGE", `cannot start ${python}: ${message}`)),
    );
    child.once("close", (code) =>
      reject(new FleetError("UNEXPECTED", `the peer ended with code ${code}: ${printed}`)),
    );
  });
  ended.catch(() => {});
  const tree = new ProcessTree(child.pid ?? Number.NaN);
  const seconds: number[] = [];
  try {
    const recovered = Promise.race([killOneByOne(spec, log, seconds), ended]);
    await withinRun(recovered, options, () => `the peer recovered ${seconds.length} times`);
    return seconds;
  } finally {
    tree.kill();
    if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) {
      await once(child, "exit");
    }
    await remove();
  }
}

async function killOneByOne(spec: RecoverySpec, log: string, seconds: number[]): Promise<void> {
  const newest = (): Line[] =>
    Array.from({ length: spec.world }, (_, rank) => lastLine(`${log}-${rank}`)).flatMap(
      (line) => line ?? [],
    );
  const reached = (): number => Math.max(0, ...newest().map(({ step }) => step));
  for (let kill = 0; kill < spec.kills; kill++) {
    const from = reached();
    await until("steps", () => reached() >= from + STEPS_BEFORE_KILL, STEP_TIMEOUT_MS);
    const before = newest();
    const victim = before.find(({ rank }) => rank === kill % spec.world);
    if (!victim) throw new FleetError("UNEXPECTED", "a rank of the peer has applied no step");
    const step = reached();
    const started = performance.now();
    process.kill(victim.pid, "SIGKILL");
    const isNew = (line: Line): boolean => before.every(({ pid }) => pid !== line.pid);
    const isAgain = () => newest().some((line) => isNew(line) && line.step > step);
    await until("the next step of the peer", isAgain, STEP_TIMEOUT_MS);
    seconds.push((performance.now() - started) / 1000);
  }
}

function lastLine(file: string): Line | undefined {
  if (!existsSync(file)) return undefined;
  const line = readFileSync(file, "utf8").split("\n").at(-2);
  return line === undefined ? undefined : lineSchema.parse(JSON.parse(line));
}
