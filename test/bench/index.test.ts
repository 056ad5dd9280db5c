import assert from "node:assert/strict";
import { chmodSync, readdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { ERROR_SPECS } from "../../proto/errors.ts";
import { startNode, type TestProcess, tempDir } from "../support/processes.ts";

const MAIN = fileURLToPath(new URL("./index/main.js", import.meta.url));
const SPEC = { images: 12_000, bytes: 300, classes: 7, shards: 2, reads: 50 };
const TINY = Object.entries(SPEC).flatMap(([name, value]) => [`--${name}`, String(value)]);

function bench(...options: readonly string[]): TestProcess {
  return startNode([MAIN, ...TINY, ...options]);
}

describe("bench:index", function () {
  this.timeout(60_000);

  it("builds the index, opens it again, and compares with a peer", async () => {
    const { dir, remove } = await tempDir();
    try {
      const peer = path.join(dir, "peer.mjs");
      const printed = { images: SPEC.images, list_s: 100, peak_mb: 1000 };
      writeFileSync(
        peer,
        `#!${process.execPath}\nconsole.log(${JSON.stringify(JSON.stringify(printed))});`,
      );
      chmodSync(peer, 0o755);
      const options = ["--rounds", "2", "--dir", dir, "--python", peer, "--json"];
      const { code, stdout, stderr } = await bench(...options).exited();
      assert.equal(code, 0, stderr);
      const found = JSON.parse(stdout);
      for (const [name, value] of Object.entries(SPEC)) assert.equal(found[name], value);
      for (const name of ["build_s", "build_mb", "reopen_s", "reads_per_s", "permutation_ms"]) {
        assert.ok(found[name] > 0, `${name}: ${stdout}`);
      }
      const rate = SPEC.images / found.build_s;
      assert.ok(Math.abs(found.entries_per_s - rate) <= 1, stdout);
      assert.equal(found.ratios.length, 2);
      assert.equal(found.ratio, Math.max(...found.ratios));
      assert.ok(found.ratio > 1 && found.memory_ratio < 1, stdout);
      assert.deepEqual(readdirSync(dir), ["peer.mjs"]);
    } finally {
      await remove();
    }
  });

  it("says what is wrong with its options", async () => {
    const nowhere = await bench("--dir", "nowhere").exited();
    assert.equal(nowhere.code, ERROR_SPECS.NOT_FOUND.exit, nowhere.stderr);
    for (const options of [
      ["--images", "0"],
      ["--classes", "12001"],
      ["--images", "900000000", "--bytes", "900000000"],
      ["--python", "no-such-python", "--rounds", "1"],
    ]) {
      const { code, stderr } = await bench(...options).exited();
      assert.equal(code, ERROR_SPECS.USAGE.exit, stderr);
    }
  });
});
