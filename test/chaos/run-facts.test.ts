import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { tempDir } from "../support/processes.ts";
import { differences, type RunFacts, readRunFacts } from "./run-facts.ts";

describe("facts of a run", () => {
  let dir = "";
  let remove = async (): Promise<void> => {};
  beforeEach(async () => {
    ({ dir, remove } = await tempDir());
  });
  afterEach(() => remove());

  /** A pre-training with two checkpoints, of which the newer one counts. */
  function facts(name: string, parts: { weights?: string; rows?: object[]; probe?: boolean }) {
    const { weights = "w", rows = [{ step: 1, loss: 2, step_s: 0.1 }], probe = true } = parts;
    const stage = path.join(dir, name, "pretrain");
    for (const step of ["step-000000001", "step-000000002"]) {
      const folder = path.join(stage, "checkpoints", step);
      mkdirSync(folder, { recursive: true });
      const isNew = step.endsWith("2");
      writeFileSync(path.join(folder, "model.safetensors"), isNew ? weights : "old");
      if (probe) writeFileSync(path.join(folder, "probe.safetensors"), "p");
    }
    const lines = rows.map((row) => `${JSON.stringify(row)}\n`).join("");
    writeFileSync(path.join(stage, "scalars.jsonl"), lines);
    return readRunFacts(path.join(dir, name));
  }

  const check = (actual: RunFacts, message: RegExp): void => {
    const found = differences(actual, facts("expected", {}));
    assert.equal(found.length, 1, found.join("\n"));
    assert.match(found[0]!, message);
  };

  it("are equal when only times differ", () => {
    const other = facts("a", { rows: [{ step: 1, loss: 2, step_s: 9, images_per_s: 3 }] });
    assert.deepEqual(differences(other, facts("b", {})), []);
  });

  it("differ by a byte of the newest weights", () => {
    check(facts("a", { weights: "v" }), /^pretrain\/model\.safetensors is step-000000002 .*, not /);
  });

  it("differ by a file that is not there", () => {
    check(facts("a", { probe: false }), /^pretrain\/probe\.safetensors is absent, not /);
  });

  it("differ by the last bit of a loss", () => {
    check(facts("a", { rows: [{ step: 1, loss: 2 + 2 ** -51 }] }), /1 of 1 lines differ, line 1/);
  });

  it("differ by a step that is there twice", () => {
    const row = { step: 1, loss: 2 };
    check(facts("a", { rows: [row, row] }), /1 of 2 lines differ, line 2 is .*, not absent/);
  });
});
