/** The commands that draw, on small data sets and logs. */

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import path from "node:path";
import sharp from "sharp";
import type { CliContext } from "../../../proto/cli/cli-context.ts";
import { runProgram } from "../../../proto/cli/run-program.ts";
import { WORKER_PROGRAM } from "../../../worker/cli/worker-program.ts";
import { type SampleFolder, sampleFolder, samplePicture } from "../data/sample-data.ts";

interface Ending {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command line in this process. */
async function run(...args: readonly string[]): Promise<Ending> {
  const ending = { code: 0, stdout: "", stderr: "" };
  const output = (name: "stdout" | "stderr") => ({
    write: (text: string) => {
      ending[name] += text;
    },
    isTTY: false,
    columns: 100,
  });
  const context: CliContext = {
    env: {},
    setEnvDefault: () => {},
    stdout: output("stdout"),
    stderr: output("stderr"),
    onStopSignal: () => {},
    onExit: () => {},
    setExitCode: (code) => {
      ending.code = code;
    },
    exit: (code) => assert.fail(`ends the process with ${code}`),
  };
  await runProgram(WORKER_PROGRAM, args, context);
  return ending;
}

/** Fails unless the command ended with this status and exactly one line that says why. */
function failsWith({ code, stdout, stderr }: Ending, status: number, message: RegExp): void {
  assert.equal(code, status, stderr);
  assert.match(stderr, /^error: [^\n]*\n$/);
  assert.match(stderr, message);
  assert.equal(stdout, "");
}

describe("a command that draws", function () {
  this.timeout(30_000);
  let folder: SampleFolder;
  let picture: string;
  before(() => {
    folder = sampleFolder();
    picture = path.join(folder.path, "picture.png");
    for (let i = 0; i < 4; i++) folder.write(`train/class-${i % 2}/${i}.ppm`, samplePicture(i));
  });
  after(() => folder.remove());

  const drew = async ({ code, stdout, stderr }: Ending): Promise<void> => {
    assert.equal(code, 0, stderr);
    assert.ok(stdout.endsWith(`wrote ${picture}\n`), stdout);
    const { channels } = await sharp(picture).stats();
    assert.ok(channels.slice(0, 3).every(({ min, max }) => min < 200 && max === 255));
  };
  const data = () => ["--set", `data.root=${folder.path}`, "--set", "data.train.path=train"];

  it("shows images and their views, and names those that it cannot read", async () => {
    await drew(await run("browse-dataset", "demo", ...data(), "--out", picture));
    folder.write("mixed/a.ppm", samplePicture(1));
    folder.write("mixed/b.ppm", "P6 nonsense");
    const mixed = ["--set", `data.root=${folder.path}`, "--set", "data.train.path=mixed"];
    const ending = await run("browse-dataset", "demo", ...mixed, "--out", picture);
    await drew(ending);
    assert.match(ending.stderr, /^note: b\.ppm .*\n$/);
  });

  it("refuses a data set that is not there, and options that make no sense", async () => {
    const browse = (...args: string[]) => run("browse-dataset", "demo", ...args);
    failsWith(await browse("--set", "data.root=/lost"), 20, /\/lost\/train does not exist/);
    failsWith(await browse(...data(), "--epoch", "99"), 2, /--epoch 99: demo has 16 epochs/);
    failsWith(await browse("--split", "val", "--mode", "pipeline"), 2, /training images/);
    failsWith(await browse("--show-number", "0"), 2, /at least 1/);
    failsWith(await browse(...data(), "--out", "picture.gif"), 2, /\.png or \.svg/);
    failsWith(await browse(...data(), "--out", "lost/picture.png"), 5, /lost does not exist/);
    failsWith(await run("browse-dataset", "demmo"), 5, /did you mean demo/);
  });

  it("shows a schedule with the number of images counted or given", async () => {
    const counted = await run("plot-schedule", "demo", ...data(), "--out", picture);
    await drew(counted);
    assert.match(counted.stdout, /^pretrain +16 +1 /m);
    const given = await run("plot-schedule", "demo", "--dataset-size", "320", "--out", picture);
    await drew(given);
    assert.match(given.stdout, /^pretrain +16 +10 /m);
    failsWith(
      await run("plot-schedule", "demo", "--set", "data.root=/lost"),
      20,
      /does not exist.*--dataset-size/,
    );
  });

  it("shows curves of a stage's folder, and passes over damaged lines by name", async () => {
    const line = (step: number) => JSON.stringify({ step, epoch: step / 2, loss: 1 / step, lr: 1 });
    folder.write("run/linear/scalars.jsonl", `${line(1)}\n{"st\n${line(2)}\n`);
    const stage = path.join(folder.path, "run/linear");
    const ending = await run("analyze-logs", stage, "--out", picture);
    await drew(ending);
    assert.match(ending.stderr, /^note: .*scalars\.jsonl: line 2 is damaged and passed over\n$/);
    const timesOf = await run("analyze-logs", stage, "--times");
    assert.equal(timesOf.code, 20);
    assert.match(timesOf.stderr, /no step with its time/);
  });

  it("refuses logs that say nothing, and figures that are not in them", async () => {
    folder.write("good.jsonl", '{"step":1,"epoch":1,"loss":1,"step_s":2,"images_per_s":8}\n');
    folder.write("empty.jsonl", "");
    const [good, empty] = ["good.jsonl", "empty.jsonl"].map((name) => path.join(folder.path, name));
    failsWith(await run("analyze-logs", empty!), 20, /empty\.jsonl is empty/);
    failsWith(
      await run("analyze-logs", good!, "--keys", "los"),
      5,
      /no run has los; there is .*loss/,
    );
    failsWith(await run("analyze-logs", good!, "--legend", "a,b"), 2, /2 names for 1 logs/);
    failsWith(await run("analyze-logs", folder.path), 5, /cannot read .*scalars\.jsonl: no such/);
    const { stdout } = await run("analyze-logs", good!, "--json");
    assert.deepEqual(JSON.parse(stdout)[0].imagesPerSecond, 8);
  });

  it("shows a confusion matrix again, and refuses another file", async () => {
    folder.write("confusion.json", '{"recipe":"r","classes":["a","b"],"counts":[[2,1],[0,3]]}');
    const file = path.join(folder.path, "confusion.json");
    const ending = await run("confusion-matrix", file, "--out", picture);
    await drew(ending);
    assert.match(ending.stdout, /^1 +33\.33 % +a +b$/m);
    folder.write("none.json", '{"recipe":"r","classes":["a"],"counts":[[0]]}');
    const none = path.join(folder.path, "none.json");
    failsWith(await run("confusion-matrix", none), 20, /counts no image/);
    failsWith(await run("confusion-matrix", path.join(folder.path, "lost")), 5, /no such file/);
    assert.ok(!existsSync("confusion.png"));
  });

  it("shows how a model's features lie", async () => {
    for (let i = 0; i < 8; i++) folder.write(`val/${i % 2}/${i}.ppm`, samplePicture(i));
    const weights = "test/fixtures/checkpoint/training.pth";
    const model = [weights, "--recipe", "demo", "--engine", "tfjs:wasm"];
    const val = ["--set", `data.root=${folder.path}`, "--set", "data.val.path=val"];
    const settings = ["--perplexity", "2", "--n-iter", "20"];
    const ending = await run("tsne", ...model, ...val, ...settings, "--out", picture);
    await drew(ending);
    assert.match(ending.stderr, /^features, images: 2 of 8\n/);
    assert.match(ending.stderr, /^t-SNE, iterations: 20 of 20\n$/m);
    failsWith(await run("tsne", ...model, ...val), 2, /perplexity 30 needs 91 images/);
    failsWith(await run("tsne", ...model, ...val, "--max-num-class", "25"), 2, /24 classes/);
    failsWith(await run("tsne", weights), 2, /does not say what it was trained on; .*--recipe/);
    failsWith(await run("tsne", "lost.pth"), 5, /lost\.pth: no such file/);
  });
});
