import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { isAlive, tempDir } from "../../support/processes.ts";
import { until } from "../../support/until.ts";
import { runPeer } from "./run-peer.ts";
import type { StepSpec } from "./step-spec.ts";

const SPEC: StepSpec = {
  engine: "auto",
  arch: "resnet50",
  stem: "imagenet",
  size: 224,
  batch: 8,
  world: 2,
  threads: 1,
  precision: "bf16",
  steps: 3,
  warmup: 1,
  syncBn: false,
  checks: false,
};

/** Stands for Python and PyTorch. */
const python = process.execPath;
const forever = "setInterval(() => {}, 1000);";
/** Memory is looked up five times a second, and right after its start a process may have none. */
const longEnough = "setTimeout(() => {}, 1000);";

describe("a peer's run", function () {
  this.timeout(20_000);

  let folder: Awaited<ReturnType<typeof tempDir>>;
  beforeEach(async () => {
    folder = await tempDir();
  });
  afterEach(() => folder.remove());

  function run(text: string, options: { timeoutMs?: number; signal?: AbortSignal } = {}) {
    const script = path.join(folder.dir, "peer.mjs");
    writeFileSync(script, text);
    const { signal } = new AbortController();
    return runPeer(SPEC, { python, script }, { timeoutMs: 15_000, signal, ...options });
  }

  it("is told the whole task, and believed", async () => {
    const figures = await run(`
      const [, , ...options] = process.argv;
      console.log("a line of something else");
      const loss = options.indexOf("--dtype");
      console.log(JSON.stringify({ step_s: 1.5, images_per_s: options.length, loss }));
      ${longEnough}
    `);
    const { peak_rss_mb, ...told } = figures;
    assert.deepEqual(told, { step_s: 1.5, images_per_s: 18, loss: 10 });
    assert.ok(peak_rss_mb > 0);
  });

  it("takes the memory of its ranks, not its own", async () => {
    const { peak_rss_mb } = await run(`
      import { spawnSync } from "node:child_process";
      const large = Buffer.alloc(400 << 20, 1);
      spawnSync("sleep", ["1"]);
      console.log(JSON.stringify({ step_s: 1, images_per_s: 1, loss: large.length }));
    `);
    assert.ok(peak_rss_mb > 0 && peak_rss_mb < 200, String(peak_rss_mb));
  });

  it("fails with the peer's own words", async () => {
    await assert.rejects(run('console.error("no torch"); process.exit(3);'), {
      code: "UNEXPECTED",
      message: "the peer ended with code 3: no torch",
    });
    await assert.rejects(run(""), { message: "the peer printed no result: it said nothing" });
    await assert.rejects(run('console.log("{}")'), { message: "the peer printed no result: {}" });
  });

  it("leaves no process when it is ended early", async () => {
    const pidFile = path.join(folder.dir, "pid");
    const interrupt = new AbortController();
    const ended = run(
      `import { spawn } from "node:child_process";
      import { writeFileSync } from "node:fs";
      const rank = spawn(process.execPath, ["-e", ${JSON.stringify(forever)}]);
      writeFileSync(${JSON.stringify(pidFile)}, String(rank.pid));
      ${forever}`,
      { signal: interrupt.signal },
    );
    await until("the peer's rank", () => existsSync(pidFile) && readFileSync(pidFile, "utf8"));
    interrupt.abort(new Error("enough"));
    await assert.rejects(ended, { message: "enough" });
    const rank = Number(readFileSync(pidFile, "utf8"));
    await until("the end of the peer's rank", () => !isAlive(rank));
  });

  it("ends at its deadline", async () => {
    await assert.rejects(run(forever, { timeoutMs: 300 }), /not finished after 0.3 s: the peer/);
  });

  it("fails when its interpreter is not there", async () => {
    const { signal } = new AbortController();
    await assert.rejects(
      runPeer(SPEC, { python: "/no/python", script: "x" }, { timeoutMs: 1000, signal }),
      /cannot start \/no\/python/,
    );
  });
});
