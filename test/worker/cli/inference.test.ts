/** `worker predict`, `extract-features` and `list-models`, as processes. */

import assert from "node:assert/strict";
import path from "node:path";
import { type Exit, startNode, WORKER_MAIN } from "../../support/processes.ts";
import { sampleFolder, samplePicture } from "../data/sample-data.ts";
import { tinyState, writeTiny } from "../inference/tiny-weights.ts";

const run = (...args: readonly string[]): Promise<Exit> =>
  startNode([WORKER_MAIN, ...args]).exited();

describe("worker command for inference", function () {
  this.timeout(60_000);
  const folder = sampleFolder();
  const [photos, broken] = ["photos", "broken.jpg"].map((name) => path.join(folder.path, name));
  let linear = "";
  before(() => {
    folder.write("photos/a.ppm", samplePicture(1));
    folder.write("photos/b.ppm", samplePicture(2));
    folder.write("broken.jpg", "no picture");
    folder.write("classes.txt", "red\ngreen\nblue\n");
    linear = writeTiny(folder, "linear.safetensors", tinyState("linear"));
  });
  after(() => folder.remove());

  it("predicts all images that can be read, and fails for the others", async () => {
    const classes = path.join(folder.path, "classes.txt");
    const { code, stdout, stderr } = await run(
      ...["predict", photos!, broken!, "--checkpoint", linear, "--classes", classes],
      ...["--engine", "tfjs:wasm", "--top", "2", "--json"],
    );
    assert.equal(code, 20);
    assert.deepEqual(stderr.split("\n"), [
      `note: ${linear} does not say how its images were prepared; took short edge 32, ` +
        "centre 32, mean 125.307 122.961 113.8575 (--model says it)",
      `error: ${broken} is not a JPEG, PNG, WebP, TIFF, BMP or PNM image`,
      "",
    ]);
    const ranked = JSON.parse(stdout);
    assert.deepEqual(
      ranked.map(({ image }: { image: string }) => path.relative(photos!, image)),
      ["a.ppm", "b.ppm"],
    );
    const [first, second] = ranked[0].predictions;
    assert.ok(first.pred_score >= second.pred_score);
    assert.equal(first.pred_class, ["red", "green", "blue"][first.pred_label]);
    assert.equal(ranked[0].predictions.length, 2);
  });

  it("prints a table", async () => {
    const { code, stdout } = await run(
      ...["predict", photos!, "--checkpoint", linear, "--engine", "tfjs:wasm"],
    );
    assert.equal(code, 0);
    assert.match(stdout, /^IMAGE +LABEL +SCORE +CLASS\n(\S+[ab]\.ppm +[012] +[01]\.\d{4}\n){2}$/);
  });

  it("writes features, and says of what", async () => {
    const out = path.join(folder.path, "features.npy");
    const { code, stdout, stderr } = await run(
      ...["extract-features", photos!, "--checkpoint", linear, "--out", out],
      ...["--engine", "tfjs:wasm"],
    );
    assert.equal(code, 0, stderr);
    assert.equal(stdout, `${out}: 2 x 16 float32, backbone of ${linear}\n`);
  });

  it("refuses in one line", async () => {
    const simclr = "simclr_resnet50_8xb32-coslr-200e_in1k";
    const cases: readonly (readonly [string[], number, RegExp])[] = [
      [["predict", "x.jpg"], 2, /no model: give --checkpoint, --model or both/],
      [["predict", "x.jpg", "--model", simclr], 2, /has no classifier/],
      [["extract-features", "x.jpg", "--model", simclr, "--out", "f.npy"], 5, /published at http/],
    ];
    for (const [args, status, message] of cases) {
      const { code, stdout, stderr } = await run(...args);
      assert.equal(code, status, stderr);
      assert.match(stderr, /^error: [^\n]*\n$/);
      assert.match(stderr, message);
      assert.equal(stdout, "");
    }
  });

  it("lists the models", async () => {
    const { stdout } = await run("list-models", "*linear*", "--exclude", "*200e*");
    assert.match(stdout, /^NAME +TASK +PARAMETERS +FLOPS +TOP-1 +WEIGHTS\n/);
    assert.match(
      stdout,
      /^resnet50_simclr-800e\S+ +Image Classification +25,557,032 .* 69\.20 % /m,
    );
    assert.doesNotMatch(stdout, /200e/);
  });
});
