import assert from "node:assert/strict";
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { openStageLog } from "../../../worker/train/stage-log.ts";

describe("stage log", () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), "stage-log-"));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));
  const lines = (): { step: number }[] =>
    readFileSync(path.join(folder, "scalars.jsonl"), "utf8")
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line));

  it("appends a line per call", () => {
    const log = openStageLog(folder, 0);
    log.write({ step: 1, loss: 0.5 });
    log.write({ step: 2, loss: 0.25 });
    assert.deepEqual(lines(), [
      { step: 1, loss: 0.5 },
      { step: 2, loss: 0.25 },
    ]);
  });

  it("drops the lines of steps that are about to be repeated, and a torn last line", () => {
    const log = openStageLog(folder, 0);
    for (const step of [1, 2, 3]) log.write({ step, loss: 1 });
    appendFileSync(path.join(folder, "scalars.jsonl"), '{"step": 4, "lo');

    openStageLog(folder, 2).write({ step: 3, loss: 2 });
    assert.deepEqual(lines(), [
      { step: 1, loss: 1 },
      { step: 2, loss: 1 },
      { step: 3, loss: 2 },
    ]);
  });

  it("names a folder that cannot be written", () => {
    const file = path.join(folder, "file");
    writeFileSync(file, "");
    assert.throws(() => openStageLog(file, 0), { code: "STORAGE_FAILED", message: /file/ });
  });
});
