import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { ERROR_SPECS } from "../../proto/errors.ts";
import { startNode, type TestProcess, tempDir } from "../support/processes.ts";

const MAIN = fileURLToPath(new URL("./allreduce/main.js", import.meta.url));
const SIZES = [4_000_000, 256];

function bench(...options: readonly string[]): TestProcess {
  return startNode([MAIN, "--bytes", SIZES.join(","), "--iters", "2", ...options]);
}

describe("bench:allreduce", function () {
  this.timeout(60_000);

  for (const transport of ["auto", "grpc"]) {
    it(`measures every size, ${transport}`, async () => {
      const run = bench("--world", "3", "--transport", transport, "--wire", "bf16", "--json");
      const { code, stdout, stderr } = await run.exited();
      assert.equal(code, 0, stderr);
      const { results, ...task } = JSON.parse(stdout);
      assert.deepEqual(task, { world: 3, wire: "bf16", transport });
      assert.equal(results.length, SIZES.length);
      for (const [i, { bytes, ours, ...rest }] of results.entries()) {
        assert.deepEqual([bytes, ours.bytes, rest], [SIZES[i], SIZES[i], {}]);
        const bandwidth = (bytes / ours.median_s / 1e6) * (4 / 3);
        assert.ok(Math.abs(ours.busbw_MBps - bandwidth) <= 0.001 * bandwidth + 0.1, stdout);
      }
    });
  }

  it("compares with a peer, round after round", async () => {
    const { dir, remove } = await tempDir();
    try {
      const peer = path.join(dir, "peer.mjs");
      const printed = SIZES.map((bytes) => ({ bytes, median_s: 0.5, busbw_MBps: 1 }));
      writeFileSync(
        peer,
        printed.map((line) => `console.log('${JSON.stringify(line)}');`).join("\n"),
      );
      const compared = ["--peer", peer, "--python", process.execPath, "--rounds", "2", "--json"];
      const { code, stdout, stderr } = await bench(...compared).exited();
      assert.equal(code, 0, stderr);
      const { results } = JSON.parse(stdout);
      for (const [i, row] of results.entries()) {
        assert.deepEqual(row.peer, printed[i]);
        assert.equal(row.ratios.length, 2);
        assert.equal(row.ratio, Math.max(...row.ratios));
        assert.ok(row.ratio > 1, stdout);
      }
    } finally {
      await remove();
    }
  });

  it("says what is wrong with its options", async () => {
    for (const options of [
      ["--bytes", "3"],
      ["--world", "0"],
      ["--wire", "f16"],
    ]) {
      const { code, stderr } = await bench(...options).exited();
      assert.equal(code, ERROR_SPECS.USAGE.exit, stderr);
    }
    const { code, stderr } = await bench("--peer", "nowhere.py").exited();
    assert.equal(code, ERROR_SPECS.NOT_FOUND.exit, stderr);
    assert.match(stderr, /there is no peer/);
  });
});
