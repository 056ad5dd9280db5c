import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { readWeights } from "../../../worker/checkpoint/read-weights.ts";
import { startNode, WORKER_MAIN } from "../../support/processes.ts";

const TRAINING = "test/fixtures/checkpoint/training.pth";

describe("`worker convert`", function () {
  this.timeout(30_000);
  let dir: string;
  before(() => {
    dir = mkdtempSync(path.join(os.tmpdir(), "convert-cli-"));
  });
  after(() => rmSync(dir, { recursive: true, force: true }));
  const convert = (...args: readonly string[]) =>
    startNode([WORKER_MAIN, "convert", ...args]).exited();

  it("says what it read, what it is, what fits, and what it wrote", async () => {
    const output = path.join(dir, "out.pth");
    const { code, stdout, stderr } = await convert(TRAINING, output, "--to", "torchvision");
    assert.equal(code, 0, stderr);
    const lines = stdout.split("\n");
    assert.match(
      lines[0]!,
      /training\.pth: PyTorch file, mmpretrain names, 110 tensors, .*epoch 10/,
    );
    assert.match(lines[1]!, /ResNet-18 of width 0\.03125, neck 8 wide/);
    assert.match(lines[2]!, /110 tensors, nothing missing or unexpected/);
    assert.match(lines[3]!, /left out 12: neck\.fc0\.weight, .* and 2 more/);
    assert.match(lines[4]!, /out\.pth: 120 tensors, [\d,]+ bytes/);
    assert.match(lines[5]!, /sha256 +[0-9a-f]{64}/);
    assert.equal(readWeights(output).tensors.size, 100);
  });

  it("prints the same as JSON, and gives a published file its name", async () => {
    const output = path.join(dir, "out.safetensors");
    const { code, stdout, stderr } = await convert(TRAINING, output, "--publish", "--json");
    assert.equal(code, 0, stderr);
    const shown = JSON.parse(stdout) as { output: { path: string; sha256: string } };
    assert.match(shown.output.path, new RegExp(`out-${shown.output.sha256.slice(0, 8)}\\.safe`));
    assert.equal(readWeights(shown.output.path).tensors.size, 110);
  });

  it("refuses a model that does not fit the recipe with one line", async () => {
    const recipe = "simclr_resnet50_16xb256-coslr-200e_in1k";
    const output = path.join(dir, "never.pth");
    const { code, stdout, stderr } = await convert(TRAINING, output, "--model", recipe);
    assert.deepEqual([code, stdout], [21, ""]);
    assert.match(stderr, /^error: .*training\.pth: .*the recipe wants a ResNet-50.*\n$/);
  });
});
