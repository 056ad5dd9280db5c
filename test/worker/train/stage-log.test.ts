import assert from "node:assert/strict";
import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import os from "node:os";
import path from "node:path";
import { openStore } from "../../../worker/checkpoint/checkpoint-store.ts";
import type { StageResult } from "../../../worker/train/stage-job.ts";
import { openStageLog, silentLog } from "../../../worker/train/stage-log.ts";

describe("stage log", () => {
  let folder: string;
  let problems: (string | undefined)[];
  beforeEach(() => {
    problems = [];
    folder = mkdtempSync(path.join(os.tmpdir(), "stage-log-"));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));
  const open = (startStep: number, { at = folder, generation = 1 } = {}) =>
    openStageLog({ folder: at, generation, startStep }, (problem) => problems.push(problem));
  const lines = (): { step: number }[] =>
    readFileSync(path.join(folder, "scalars.jsonl"), "utf8")
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line));

  it("appends a line per call", () => {
    const log = open(0);
    log.write({ step: 1, loss: 0.5 });
    log.write({ step: 2, loss: 0.25 });
    assert.deepEqual(lines(), [
      { step: 1, loss: 0.5 },
      { step: 2, loss: 0.25 },
    ]);
  });

  it("drops the lines of steps that are about to be repeated, and a torn last line", () => {
    const log = open(0);
    for (const step of [1, 2, 3]) log.write({ step, loss: 1 });
    appendFileSync(path.join(folder, "scalars.jsonl"), '{"step": 4, "lo');

    open(2).write({ step: 3, loss: 2 });
    assert.deepEqual(lines(), [
      { step: 1, loss: 1 },
      { step: 2, loss: 1 },
      { step: 3, loss: 2 },
    ]);
  });

  it("writes the lines of the last step that an earlier rank 0 was lost before", () => {
    open(0).write({ step: 1, loss: 1 });
    const others = silentLog();
    for (const line of [
      { step: 1, loss: 1 },
      { step: 2, loss: 0.5 },
      { step: 2, top1: 10 },
    ]) {
      others.write(line);
    }
    const [trained, evaluated] = others.newest;
    open(2).makeUp(others.newest);
    assert.deepEqual(lines().slice(1), [trained, evaluated]);

    const again = open(2);
    again.makeUp(others.newest);
    assert.equal(lines().length, 3);
    assert.deepEqual(again.newest, others.newest);
  });

  it("names a folder that a stage cannot begin in", () => {
    const at = path.join(folder, "file");
    writeFileSync(at, "");
    assert.throws(() => open(0, { at }), { code: "STORAGE_FAILED", message: /file/ });
    assert.deepEqual(problems, []);
  });

  describe("when storage fails for a while", () => {
    const aside = (): string => `${folder}-aside`;
    afterEach(() => rmSync(aside(), { recursive: true, force: true }));
    /** In the place of the folder there is a file, so that nothing can be written. */
    const breakStorage = (): void => {
      renameSync(folder, aside());
      writeFileSync(folder, "");
    };
    const mendStorage = (): void => {
      rmSync(folder);
      renameSync(aside(), folder);
    };

    it("goes on, names it once, and writes all lines once it works again", () => {
      const log = open(0);
      log.write({ step: 1 });
      breakStorage();
      log.write({ step: 2 });
      log.write({ step: 3 });
      assert.equal(problems.length, 1);
      assert.match(
        problems[0]!,
        new RegExp(`^log lines cannot be written to ${folder}: .*ENOTDIR`),
      );
      mendStorage();
      log.write({ step: 4 });
      assert.equal(problems.length, 2);
      assert.equal(problems[1], undefined);
      assert.deepEqual(
        lines().map(({ step }) => step),
        [1, 2, 3, 4],
      );
    });

    it("goes on when a stage is taken up then, and drops the lines of repeated steps later", () => {
      const before = open(0);
      for (const step of [1, 2, 3]) before.write({ step, loss: 1 });
      breakStorage();
      const log = open(2);
      log.write({ step: 3, loss: 2 });
      assert.equal(problems.length, 1);
      mendStorage();
      log.write({ step: 4, loss: 2 });
      const losses = lines() as unknown as { loss: number }[];
      assert.deepEqual(
        losses.map(({ loss }) => loss),
        [1, 1, 2, 2],
      );
    });

    it("leaves no part of a line that did not fit", () => {
      const log = open(0);
      log.write({ step: 1 });
      breakStorage();
      log.write({ step: 2 });
      mendStorage();
      appendFileSync(path.join(folder, "scalars.jsonl"), '{"st');
      log.write({ step: 3 });
      assert.deepEqual(
        lines().map(({ step }) => step),
        [1, 2, 3],
      );
    });

    it("begins anew in a folder that was removed", () => {
      const log = open(0);
      log.write({ step: 1 });
      rmSync(folder, { recursive: true });
      log.write({ step: 2 });
      log.write({ step: 3 });
      assert.deepEqual(
        lines().map(({ step }) => step),
        [2, 3],
      );
    });
  });

  it("writes nothing once the folder belongs to a later generation", () => {
    const log = open(0);
    log.write({ step: 1 });
    openStore(path.join(folder, "checkpoints"), 2);
    const refused = { code: "GENERATION_ABORTED", message: /^fenced off: .*generation 2/ };
    assert.throws(() => log.write({ step: 2 }), refused);
    assert.throws(() => log.writeResult({} as StageResult), refused);
    assert.throws(() => open(1), refused);
    assert.equal(lines().length, 1);
    assert.ok(!existsSync(path.join(folder, "result.json")));
  });
});
