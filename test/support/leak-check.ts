/**
 * Root hooks of mocha: after the last test nothing is left of what the tests have started or made.
 *
 * Two things in the environment, which children inherit, tell the run's own from everything else on
 * the machine: a mark, which is searched for in /proc, and a folder of the run's own for temporary
 * files. A Redis server outlives no suite, so that its keys go with it.
 */

import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import type { RootHookObject } from "mocha";
import { findLeaks, type Leak, RUN_MARK } from "./leaks.ts";
import { until } from "./until.ts";

/** Processes that were told to end may take a moment. */
const PATIENCE_MS = 5_000;

const folder = mkdtempSync(path.join(tmpdir(), "simclr-run-"));
const mark = randomUUID();
const sinceMs = Date.now();
process.env["TMPDIR"] = folder;
process.env[RUN_MARK] = mark;

export const mochaHooks: RootHookObject = {
  async afterAll(this: Mocha.Context) {
    this.timeout(2 * PATIENCE_MS);
    const find = (): readonly Leak[] => findLeaks({ mark, folder, sinceMs });
    const isClean = await until("nothing", () => find().length === 0, PATIENCE_MS).catch(
      () => false,
    );
    const leaks = isClean ? [] : find();
    for (const { pid } of leaks) if (pid !== undefined) process.kill(pid, "SIGKILL");
    rmSync(folder, { recursive: true, force: true });
    if (leaks.length === 0) return;
    throw new Error(`the tests have left:\n${leaks.map(({ what }) => `  ${what}`).join("\n")}`);
  },
};
