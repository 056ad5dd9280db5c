/** Our side: one process per rank on this machine, from start to the last one's end. */

import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { FleetError } from "../../../proto/errors.ts";
import { type RunOptions, withinRun } from "../within-run.ts";
import { workerFlags } from "../worker-flags.ts";
import type { AllReduceSpec, RankMessage, RankTask, SizeResult } from "./spec.ts";

/**
 * Measures our all-reduce. Whatever happens, no process is left.
 *
 * @returns rank 0's results
 * @throws {FleetError} GENERATION_ABORTED; UNEXPECTED when a rank dies or the run takes too long
 */
export async function runRanks(
  spec: AllReduceSpec,
  options: RunOptions,
): Promise<readonly SizeResult[]> {
  const ranks = Array.from({ length: spec.world }, () => startRank());
  try {
    return await withinRun(measure(spec, ranks), options, () => "our ranks are still at it");
  } finally {
    for (const rank of ranks) rank.kill("SIGKILL");
    await Promise.all(ranks.map(ended));
  }
}

async function measure(
  spec: AllReduceSpec,
  ranks: readonly ChildProcess[],
): Promise<readonly SizeResult[]> {
  const addresses = await Promise.all(
    ranks.map(async (rank) => (await heard(rank, "listening")).address),
  );
  const peers = addresses.map((address, rank) => ({ workerId: `rank-${rank}`, address }));
  const measured = ranks.map((rank) => heard(rank, "measured"));
  for (const [rank, child] of ranks.entries()) child.send({ rank, peers, spec } satisfies RankTask);
  const [first] = await Promise.all(measured);
  return first!.results;
}

function startRank(): ChildProcess {
  // Standard output belongs to the result.
  return fork(fileURLToPath(new URL("./rank-process.js", import.meta.url)), {
    execArgv: workerFlags(),
    stdio: ["ignore", process.stderr, process.stderr, "ipc"],
  });
}

async function ended(rank: ChildProcess): Promise<void> {
  if (rank.exitCode === null && rank.signalCode === null) await once(rank, "exit");
}

/** The next message of a type; rejects when the rank fails or ends before. */
function heard<Type extends RankMessage["type"]>(
  rank: ChildProcess,
  type: Type,
): Promise<Extract<RankMessage, { type: Type }>> {
  return new Promise((resolve, reject) => {
    rank.on("message", (message: RankMessage) => {
      if (message.type === type) resolve(message as Extract<RankMessage, { type: Type }>);
      if (message.type === "failed") reject(FleetError.fromPlain(message.error));
    });
    rank.once("exit", (code, signal) => {
      const text = `rank process ${rank.pid} ended by ${signal ?? `code ${code}`}`;
      reject(new FleetError("UNEXPECTED", text));
    });
  });
}
