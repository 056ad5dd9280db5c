import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { ERROR_SPECS } from "../../../proto/errors.ts";

const FIXTURES = path.join(process.cwd(), "test/fixtures/golden");
const MAIN = fileURLToPath(new URL("../../../worker/golden/main.js", import.meta.url));

function golden(...parameters: string[]) {
  const run = spawnSync(process.execPath, [MAIN, ...parameters], { encoding: "utf8" });
  return { status: run.status, lines: run.stdout.trim().split("\n"), errors: run.stderr };
}

describe("golden command", function () {
  this.timeout(30_000);

  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), "golden-"));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  function copyCase(name: string, change: (text: string) => string = (text) => text): void {
    const json = readFileSync(path.join(FIXTURES, `${name}.json`), "utf8");
    writeFileSync(path.join(folder, `${name}.json`), change(json));
    const tensors = `${name}.safetensors`;
    if (name !== "schedules")
      copyFileSync(path.join(FIXTURES, tensors), path.join(folder, tensors));
  }

  it("prints one line a case, with the worst error by quantity", () => {
    copyCase("ntxent-small");
    copyCase("schedules");
    const { status, lines } = golden(folder, "--engine", "tfjs:wasm");
    assert.equal(status, 0);
    assert.equal(lines.length, 2);
    assert.match(lines[0]!, /^ntxent-small: pass: loss \d\.\de-\d+, dz \d\.\de-\d+$/);
    assert.match(lines[1]!, /^schedules: pass: pretrain200 \S+, linear90 \S+$/);
  });

  it("fails when one case fails, and says where it is worst", () => {
    copyCase("ntxent-small", (text) => text.replace(/"loss": 6\.3/, '"loss": 6.4'));
    copyCase("schedules");
    const { status, lines } = golden(folder, "--engine", "tfjs:wasm");
    assert.equal(status, 1);
    assert.match(lines[0]!, /^ntxent-small: fail: loss 1\.6e-2 > 1\.0e-5 \(rank 0\), dz /);
    assert.match(lines[1]!, /^schedules: pass/);
  });

  it("fails a case that it cannot read, and goes on to the next", () => {
    writeFileSync(path.join(folder, "broken.json"), "{");
    writeFileSync(path.join(folder, "foreign.json"), '{"a": [1]}');
    copyCase("ntxent-small", (text) => text.replace('"world": 2', '"world": 3'));
    copyCase("schedules");
    const { status, lines } = golden(folder, "--engine", "tfjs:wasm");
    assert.equal(status, 1);
    assert.match(lines[0]!, /^broken: fail: DATA_INVALID: .*broken\.json cannot be read/);
    assert.match(lines[1]!, /^foreign: fail: DATA_INVALID: foreign\.json is no reference case: a/);
    assert.match(lines[2]!, /^ntxent-small: fail: DATA_INVALID: z is \[12,8\], not \[18,8\]$/);
    assert.match(lines[3]!, /^schedules: pass/);
  });

  it("fails when there is no case", () => {
    const { status, errors } = golden(folder, "--engine", "tfjs:wasm");
    assert.equal(status, ERROR_SPECS.NOT_FOUND.exit);
    assert.match(errors, /^golden: NOT_FOUND: no reference case in \S+\n$/);
  });

  it("names an engine that it does not know, in one line", () => {
    copyCase("schedules");
    const { status, errors } = golden(folder, "--engine", "abacus");
    assert.equal(status, ERROR_SPECS.USAGE.exit);
    assert.match(errors, /^golden: USAGE: .*abacus.*\n$/);
  });

  it("wants a folder", () => {
    assert.equal(golden().status, ERROR_SPECS.USAGE.exit);
  });
});
