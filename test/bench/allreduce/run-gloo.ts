/** The other side: PyTorch's all-reduce over Gloo, in processes of its own, on the same task. */

import { z } from "zod";
import { freePort } from "../../support/processes.ts";
import { type PeerCommand, runScript } from "../run-script.ts";
import type { RunOptions } from "../within-run.ts";
import type { AllReduceSpec, SizeResult } from "./spec.ts";

const resultSchema = z.object({
  bytes: z.number().positive(),
  median_s: z.number().positive(),
  busbw_MBps: z.number().nonnegative(),
});

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
  const end = await runScript(python, [script, ...args], options);
  const results = end.stdout.split("\n").flatMap((line) => parsed(line));
  if (end.isSuccess && results.length === bytes.length) return results;
  throw end.failure();
}

function parsed(line: string): SizeResult[] {
  try {
    return [resultSchema.parse(JSON.parse(line))];
  } catch {
    return [];
  }
}
