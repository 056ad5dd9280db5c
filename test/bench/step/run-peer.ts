/** The other side: the peer's script, in processes of its own, on the same task. */

import path from "node:path";
import { z } from "zod";
import { freePort } from "../../support/processes.ts";
import { ROOT } from "../../support/sources.ts";
import { type PeerCommand, runScript } from "../run-script.ts";
import type { RunOptions } from "../within-run.ts";
import { type Figures, round } from "./measurement.ts";
import type { StepSpec } from "./step-spec.ts";

/** Read from the sources: the build copies no Python. */
const CIFAR_PEER = path.join(ROOT, "test/bench/step/torch_simclr_cifar.py");

const resultSchema = z.object({
  step_s: z.number().positive(),
  images_per_s: z.number().positive(),
  loss: z.number(),
});

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
  const end = await runScript(python, args, options);
  const line = end.stdout.split("\n").findLast((text) => text.startsWith("{")) ?? "";
  const printed = resultSchema.safeParse(parseJson(line));
  if (!end.isSuccess || !printed.success) throw end.failure();
  return { ...printed.data, peak_rss_mb: round(end.peakRssMb, 1) };
}

function peerArguments(spec: StepSpec, script: string, port: number): string[] {
  const { arch, size, batch, world, threads, precision: dtype, steps, warmup } = spec;
  const values = { arch, size, batch, world, threads, dtype, steps, warmup, port };
  const options = Object.entries(values).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const files = spec.stem === "cifar" ? [CIFAR_PEER, script] : [script];
  return [...files, ...options];
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
