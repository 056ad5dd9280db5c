import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { ERROR_SPECS } from "../../proto/errors.ts";
import { startNode, type TestProcess, tempDir } from "../support/processes.ts";

const MAIN = fileURLToPath(new URL("./recovery/main.js", import.meta.url));

/** As torchrun: starts its ranks again whenever one of them has died; they go on counting. */
const PEER = `
import { spawn } from "node:child_process";
import { appendFileSync } from "node:fs";
const value = (name) => process.argv[process.argv.indexOf("--" + name) + 1];
if (process.env.RANK === undefined) {
  let begin = 0;
  const start = () => {
    begin += 100;
    const ranks = Array.from({ length: Number(value("world")) }, (_, rank) =>
      spawn(process.execPath, process.argv.slice(1), { env: { RANK: rank, BEGIN: begin } }));
    const restart = () => {
      for (const rank of ranks) rank.off("exit", restart).kill("SIGKILL");
      start();
    };
    for (const rank of ranks) rank.on("exit", restart);
  };
  start();
} else {
  const rank = Number(process.env.RANK);
  let step = Number(process.env.BEGIN);
  setInterval(() => {
    const line = JSON.stringify({ step: step++, rank, pid: process.pid });
    appendFileSync(value("lines") + "-" + rank, line + "\\n");
  }, 10);
}
`;

function bench(...options: readonly string[]): TestProcess {
  return startNode([MAIN, ...options]);
}

describe("bench:recovery", function () {
  this.timeout(240_000);

  it("compares recoveries with a peer's, round after round", async () => {
    const { dir, remove } = await tempDir();
    try {
      const peer = path.join(dir, "peer.mjs");
      writeFileSync(peer, PEER);
      const small = ["--tiny", "--engine", "tfjs:wasm", "--batch", "2", "--size", "16"];
      const compared = ["--peer", peer, "--python", process.execPath];
      const run = bench(...small, ...compared, "--rounds", "1", "--kills", "2", "--json");
      const { code, stdout, stderr } = await run.exited();
      assert.equal(code, 0, stderr);
      const { ours, peer: theirs, ratio, ...rest } = JSON.parse(stdout);
      for (const { seconds, median_s, least_s, most_s } of [ours, theirs]) {
        assert.equal(seconds.length, 2);
        assert.ok(seconds.every((each: number) => each > 0));
        assert.deepEqual([least_s, most_s], [Math.min(...seconds), Math.max(...seconds)]);
        assert.equal(median_s, most_s, "of two the slower one");
      }
      assert.deepEqual(rest.ratios, [ratio]);
    } finally {
      await remove();
    }
  });

  it("says what is wrong with its options", async () => {
    const { code, stderr } = await bench("--kills", "0").exited();
    assert.equal(code, ERROR_SPECS.USAGE.exit, stderr);
    const missing = await bench("--peer", "nowhere.py").exited();
    assert.equal(missing.code, ERROR_SPECS.NOT_FOUND.exit, missing.stderr);
    assert.match(missing.stderr, /there is no peer/);
  });
});
