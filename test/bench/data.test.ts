import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import sharp from "sharp";
import { ERROR_SPECS } from "../../proto/errors.ts";
import { startNode, type TestProcess, tempDir } from "../support/processes.ts";

const MAIN = fileURLToPath(new URL("./data/main.js", import.meta.url));
const IMAGES = 43;

function bench(...options: readonly string[]): TestProcess {
  return startNode([MAIN, ...options]);
}

describe("bench:data", function () {
  this.timeout(60_000);
  let dir = "";
  let remove = async (): Promise<void> => {};
  before(async () => {
    ({ dir, remove } = await tempDir());
    mkdirSync(path.join(dir, "images"));
    const noise = { type: "gaussian", mean: 128, sigma: 40 } as const;
    const create = { width: 60, height: 45, channels: 3, background: "black", noise } as const;
    const jpeg = await sharp({ create }).jpeg().toBuffer();
    for (let i = 0; i < IMAGES; i++) writeFileSync(path.join(dir, "images", `${i}.jpg`), jpeg);
  });
  after(() => remove());

  for (const pipeline of ["pretrain", "linear", "validation"]) {
    it(`measures the pipeline of ${pipeline}`, async () => {
      const options = ["--images", path.join(dir, "images"), "--pipeline", pipeline, "--json"];
      const run = bench(...options, "--size", "32", "--repeat", "2");
      const { code, stdout, stderr } = await run.exited();
      assert.equal(code, 0, stderr);
      const { ours, ...rest } = JSON.parse(stdout);
      assert.deepEqual(rest, { pipeline, threads: 2, size: 32 });
      // Whole batches of 20, the first pass left out.
      assert.equal(ours.images, 2 * 40);
      assert.ok(ours.images_per_s > 0, stdout);
    });
  }

  it("compares with a peer, run after run", async () => {
    const peer = path.join(dir, "peer.mjs");
    const printed = JSON.stringify({ peer: "Pillow", procs: 1, images: 80, images_per_s: 0.5 });
    writeFileSync(peer, `console.log(${JSON.stringify(printed)});`);
    const options = ["--images", path.join(dir, "images"), "--threads", "1", "--repeat", "1"];
    const compared = ["--peer", peer, "--python", process.execPath, "--rounds", "2", "--json"];
    const { code, stdout, stderr } = await bench(...options, ...compared).exited();
    assert.equal(code, 0, stderr);
    const { ours, peer: theirs, ratio, ratios } = JSON.parse(stdout);
    assert.equal(theirs.images_per_s, 0.5);
    assert.equal(ratios.length, 2);
    assert.equal(ratio, Math.max(...ratios));
    assert.ok(ratios.some((value: number) => Math.abs(value - ours.images_per_s / 0.5) < 0.01));
    assert.match(stderr, /^round 1 of 2: .*\nround 2 of 2: /);
  });

  it("refuses what it cannot measure", async () => {
    const images = path.join(dir, "images");
    const refusals = [
      [["--images", path.join(dir, "nowhere")], "NOT_FOUND", /there is no folder .*nowhere/],
      [["--images", dir, "--threads", "0"], "USAGE", /no positive number/],
      [["--images", images, "--peer", "/nowhere.py"], "NOT_FOUND", /there is no peer/],
      [["--images", images, "--peer", "--size", "32"], "USAGE", /224 px views of pre-training/],
    ] as const;
    for (const [options, code, message] of refusals) {
      const end = await bench(...options).exited();
      assert.equal(end.code, ERROR_SPECS[code].exit, end.stderr);
      assert.match(end.stderr, message);
    }
  });
});
