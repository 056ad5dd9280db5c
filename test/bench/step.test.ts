import assert from "node:assert/strict";
import { readdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { ERROR_SPECS } from "../../proto/errors.ts";
import { PHASES } from "../../worker/train/stage-job.ts";
import { isAlive, startNode, type TestProcess, tempDir } from "../support/processes.ts";
import { until } from "../support/until.ts";
import { readProcess } from "./process-tree.ts";

const MAIN = fileURLToPath(new URL("./step/main.js", import.meta.url));
const TINY = ["--engine", "tfjs:wasm", "--arch", "resnet18", "--batch", "2", "--warmup", "1"];

function bench(...options: readonly string[]): TestProcess {
  return startNode([MAIN, ...TINY, ...options]);
}

describe("bench:step", function () {
  this.timeout(180_000);

  it("measures the step of two ranks, and what its checks cost", async () => {
    const options = ["--size", "16", "--world", "2", "--steps", "3", "--checks", "--json"];
    const { code, stdout, stderr } = await bench(...options).exited();
    assert.equal(code, 0, stderr);
    const { step_s, images_per_s, peak_rss_mb, loss, phases, ...rest } = JSON.parse(stdout);
    const { all_reduce_s, all_reduce_hidden, checks, ...task } = rest;
    assert.deepEqual(task, {
      engine: "tfjs:wasm",
      device: "CPU, 1 thread",
      arch: "resnet18",
      stem: "cifar",
      size: 16,
      batch: 2,
      world: 2,
      threads: 1,
      precision: "f32",
      steps: 3,
      warmup: 1,
      sync_bn: false,
    });
    for (const value of [step_s, images_per_s, peak_rss_mb, loss]) assert.ok(value > 0, stdout);
    assert.ok(Math.abs(images_per_s * step_s - 4) < 0.01, stdout);
    assert.deepEqual(Object.keys(phases), [...PHASES]);
    assert.ok(all_reduce_s > 0 && all_reduce_hidden >= 0 && all_reduce_hidden <= 1, stdout);
    for (const value of Object.values<number>(checks)) assert.ok(value > 0, stdout);
    const expected = (checks.numbers_s + checks.replicas_s / 100) / checks.step_s;
    assert.ok(Math.abs(checks.overhead - expected) < 1e-5, stdout);
  });

  it("compares with a peer, run after run", async () => {
    const { dir, remove } = await tempDir();
    try {
      const peer = path.join(dir, "peer.mjs");
      const printed = { step_s: 0.5, images_per_s: 4, loss: 3 };
      // It lives for longer than it takes to look up its memory.
      const text = `console.log(${JSON.stringify(JSON.stringify(printed))});`;
      writeFileSync(peer, `${text} setTimeout(() => {}, 1000);`);
      const compared = ["--peer", peer, "--python", process.execPath, "--rounds", "1", "--json"];
      const run = bench("--size", "32", "--stem", "imagenet", "--steps", "1", ...compared);
      const { code, stdout, stderr } = await run.exited();
      assert.equal(code, 0, stderr);
      const { images_per_s, peak_rss_mb, ratio, memory_ratio, rounds, ...result } =
        JSON.parse(stdout);
      const { peak_rss_mb: peerPeak, ...figures } = result.peer;
      assert.deepEqual(figures, printed);
      assert.ok(Math.abs(ratio - images_per_s / 4) < 1e-3, stdout);
      assert.ok(Math.abs(memory_ratio - peak_rss_mb / peerPeak) < 1e-3, stdout);
      assert.equal(rounds.length, 1);
      assert.equal(rounds[0].ratio, ratio);
    } finally {
      await remove();
    }
  });

  it("compares the step of two ranks with that of one", async () => {
    const run = bench("--size", "16", "--world", "2", "--steps", "1", "--rounds", "1", "--scaling");
    const { code, stdout, stderr } = await run.exited();
    assert.equal(code, 0, stderr);
    assert.match(stderr, /^round 1 of 1: ours [\d.]+ images\/s, scaling ours [\d.]+\n$/);
    assert.match(stdout, /^ours, 1 rank +[\d.]+ +[\d.]+ s/m);
    assert.match(stdout, /^scaling +ours [\d.]+: step of 2 ranks \/ of 1$/m);
    assert.match(stdout, /^all-reduce +[\d.]+ s, [\d.]+ % hidden$/m);
  });

  it("names the rank that died, and leaves none", async () => {
    const run = bench("--size", "16", "--world", "2", "--steps", "9999");
    const ranks = await until("two ranks", () => {
      const found = childrenOf(run.pid);
      return found.length === 2 ? found : undefined;
    });
    process.kill(ranks[1] ?? 0, "SIGKILL");
    const { code, stderr } = await run.exited();
    assert.equal(code, ERROR_SPECS.UNEXPECTED.exit);
    assert.match(stderr, /^bench:step: UNEXPECTED: rank 1 \(process \d+\) ended by SIGKILL\n$/);
    assert.deepEqual(ranks.filter(isAlive), []);
  });

  it("ends a run that takes too long, and leaves no rank", async () => {
    const { code, stderr } = await bench("--size", "16", "--timeout", "1").exited();
    assert.equal(code, ERROR_SPECS.UNEXPECTED.exit);
    const [, pid] = /not finished after 1 s: rank 0 \(process (\d+)\) had/.exec(stderr) ?? [];
    assert.ok(!isAlive(Number(pid)), stderr);
  });

  for (const [options, complaint] of [
    [["--arch", "vgg"], /'vgg' is invalid/],
    [["--batch", "0"], /'0' is invalid/],
    [["--size", "16", "--stem", "imagenet"], /data.imageSize of at least 32/],
    [["--size", "16", "--engine", "abacus"], /there is no engine "abacus"/],
    [["--size", "16", "--profile"], /tfjs:wasm does not measure its operations/],
    [["--peer", MAIN, "--profile"], /not together with --peer/],
    [["--peer", MAIN, "--sync-bn"], /--sync-bn is unfair/],
    [["--checks", "--steps", "2"], /--checks takes turns of 3 --steps/],
    [["--checks", "--scaling", "--world", "2"], /--checks varies our steps/],
    [["--scaling"], /--scaling compares --world 2 or more with 1/],
    [["--scaling", "--world", "2", "--profile"], /not together with --scaling/],
  ] as const) {
    it(`refuses ${options.join(" ").replace(MAIN, "FILE")}`, async () => {
      const { code, stdout, stderr } = await bench(...options).exited();
      assert.equal(code, ERROR_SPECS.USAGE.exit);
      assert.match(stderr, complaint);
      assert.equal(stdout, "");
    });
  }
});

function childrenOf(pid: number): number[] {
  const processes = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return processes.map(Number).filter((child) => readProcess(child)?.parent === pid);
}
