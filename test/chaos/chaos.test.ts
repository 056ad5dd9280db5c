/** The harness as people start it, for a bounded time. */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { ERROR_SPECS } from "../../proto/errors.ts";
import { startNode, type TestProcess, tempDir } from "../support/processes.ts";
import { FAULT_KINDS } from "./faults.ts";
import type { ChaosReport } from "./run-chaos.ts";

const MAIN = fileURLToPath(new URL("./main.js", import.meta.url));

describe("chaos", function () {
  this.timeout(600_000);
  let dir = "";
  let remove = async (): Promise<void> => {};
  beforeEach(async () => {
    ({ dir, remove } = await tempDir());
  });
  afterEach(() => remove());

  /** All that it and its children write goes to `dir`, and their environment says so. */
  const chaos = (...options: readonly string[]): TestProcess =>
    startNode([MAIN, ...options], { env: { TMPDIR: dir } });

  function assertNothingIsLeft(): void {
    assert.deepEqual(readdirSync(dir), []);
    assert.deepEqual(processesWith(`TMPDIR=${dir}`), []);
  }

  it("changes no bit of a run, whatever strikes it, and leaves nothing behind", async () => {
    const few = ["--epochs", "6", "--faults", String(FAULT_KINDS.length), "--together", "1"];
    const run = chaos("--seed", "1", ...few, "--minutes", "60", "--json");
    const { code, stdout, stderr } = await run.exited();
    assert.equal(code, 0, stdout + stderr);
    const { faults, experiments, problems } = JSON.parse(stdout) as ChaosReport;
    assert.deepEqual(problems, []);
    const kinds = faults.flatMap((fault) => fault.kinds);
    assert.deepEqual([...kinds].sort(), [...FAULT_KINDS].sort(), "every kind has struck");
    assert.ok(experiments.length > 1);
    for (const { id, state, stepsLost, ...rest } of experiments) {
      assert.deepEqual([state, rest.problems], ["succeeded", []], id);
      assert.ok(Math.max(0, ...stepsLost) <= 1, `${id} lost ${stepsLost} steps`);
    }
    assertNothingIsLeft();
  });

  it("leaves nothing behind when it is interrupted", async () => {
    const run = chaos("--epochs", "6", "--seed", "1");
    await run.logged(/workers, .* run$/m);
    const { code, stderr } = await run.end("SIGINT");
    assert.equal(code, ERROR_SPECS.UNEXPECTED.exit, stderr);
    assert.match(stderr, /ended by SIGINT/);
    assertNothingIsLeft();
  });

  it("says what is wrong with its options", async () => {
    for (const options of [
      ["--minutes", "0"],
      ["--together", "2"],
      ["--seed", "x"],
      ["--kinds", "earthquake"],
    ]) {
      const { code, stderr } = await chaos(...options).exited();
      assert.equal(code, ERROR_SPECS.USAGE.exit, stderr);
    }
  });
});

/** Command lines of the processes with such an entry in their environment. */
function processesWith(entry: string): string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const environment = readFileSync(path.join("/proc", pid, "environ"), "latin1");
        const isOne = environment.split("\0").includes(entry);
        return isOne ? [readFileSync(path.join("/proc", pid, "cmdline"), "latin1")] : [];
      } catch {
        // Gone, or somebody else's.
        return [];
      }
    });
}
