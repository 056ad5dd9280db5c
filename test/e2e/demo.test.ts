import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { mkdir, readdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import {
  COORDINATOR_MAIN,
  isAlive,
  startNode,
  startProcess,
  type TestProcess,
  tempDir,
} from "../support/processes.ts";

const DEADLINE_MS = 30_000;

/** One step of two workers for each stage, and an evaluation of 16 images. */
const SHORT = [
  ...["--set", "data.train.limit=32", "--set", "data.val.limit=16"],
  ...["--set", "pretrain.epochs=1", "--set", "pretrain.schedule.warmupEpochs=0"],
  ...["--set", "linear.epochs=1", "--set", "linear.batchPerWorker=16"],
];

interface Process {
  readonly pid: number;
  /** With its arguments. */
  readonly command: string;
}

describe("coordinator demo", function () {
  this.timeout(240_000);
  let dir: string;
  let remove: () => Promise<void>;

  beforeEach(async () => {
    const temporary = await tempDir();
    remove = temporary.remove;
    dir = path.join(temporary.dir, "demo");
  });
  afterEach(() => remove());

  const demoArgs = (...args: string[]): string[] => [
    ...[COORDINATOR_MAIN, "demo", "--dir", dir, "--engine", "tfjs:wasm"],
    ...args,
  ];

  it("pre-trains, evaluates both backbones, and keeps figures, curve and logs", async () => {
    const { code, stdout, stderr } = await startNode(demoArgs("--json", ...SHORT)).exited();
    assert.equal(code, 0, stderr);
    const figures = JSON.parse(stdout);
    assert.equal(figures.folder, dir);
    assert.equal(figures.pretrain.steps, 1);
    assert.ok(Number.isFinite(figures.pretrain.loss_first));
    assert.equal(figures.gainPoints, figures.linear.top1 - figures.random.top1);
    for (const { top1, top5 } of [figures.linear, figures.random]) {
      assert.ok(0 <= top1 && top1 <= top5 && top5 <= 100);
    }
    assert.deepEqual((await readdir(dir)).sort(), [
      "logs",
      "loss-curve.png",
      "loss-curve.svg",
      "scalars.jsonl",
      "summary.json",
    ]);
    assert.deepEqual(JSON.parse(readFileSync(path.join(dir, "summary.json"), "utf8")), figures);
  });

  it("shows progress and a table, and keeps everything when it is asked to", async () => {
    const { code, stdout, stderr } = await startNode(demoArgs("--keep", ...SHORT)).exited();
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^to be seen on http:\/\/127\.0\.0\.1:\d+ meanwhile$/m);
    assert.match(stdout, /pretrain epoch 1\.00\/1 {2}step 1\/1/);
    assert.match(stdout, /^STAGE +BACKBONE +LOSS FIRST +LOSS LAST +TOP-1/m);
    assert.match(stdout, /^pretrain .*\nlinear +pre-trained .* %.*\nlinear +random .* %/m);
    assert.match(stdout, /points of top-1/);
    assert.ok(stdout.includes(path.join(dir, "loss-curve.svg")));
    const kept = await readdir(dir);
    for (const folder of ["data", "runs"]) assert.ok(kept.includes(folder), folder);
  });

  it("leaves nothing running after Ctrl-C in the middle of training", async () => {
    // setsid makes it the leader of a process group, as a shell does; Ctrl-C signals the whole
    // group.
    const demo = startProcess("setsid", [process.execPath, ...demoArgs()]);
    const processes = await trainingProcesses(demo);
    process.kill(-demo.pid, "SIGINT");
    const { code } = await demo.exited();
    assert.equal(code, 130);
    await assertGone(processes);
  });

  for (const signal of ["SIGTERM", "SIGHUP"] as const) {
    it(`leaves nothing running after a ${signal} to itself alone`, async () => {
      const demo = startNode(demoArgs());
      const processes = await trainingProcesses(demo);
      const { code } = await demo.end(signal);
      assert.equal(code, 143);
      await assertGone(processes);
    });
  }

  it("leaves nothing running when npx, which passes no signal on, is told to end", async () => {
    // As npx starts it: through a shell that waits.
    const script = ['"$@" & wait', "npx", process.execPath, ...demoArgs()];
    const npx = startProcess("sh", ["-c", ...script], { env: { npm_command: "exec" } });
    await npx.output(/pretrain epoch/);
    const processes = processTree(npx.pid);
    assert.ok(processes.length >= 5, JSON.stringify(processes));
    npx.child.kill("SIGTERM");
    await assertGone(processes);
  });

  it("leaves nothing running after Ctrl-C while it is still starting", async () => {
    const demo = startNode(demoArgs());
    await demo.output(/starting Redis/);
    const { code } = await demo.end("SIGINT");
    assert.equal(code, 130);
    await assertGone(processTree(demo.pid));
  });

  for (const victim of ["coordinator", "worker"]) {
    it(`ends with an error, and everything else, when a ${victim} dies`, async () => {
      const demo = startNode(demoArgs());
      const processes = await trainingProcesses(demo);
      const target = processes.find(({ command }) => command.includes(`/${victim}/main.js start`));
      assert.ok(target);
      process.kill(target.pid, "SIGKILL");
      const { code, stderr } = await demo.exited();
      assert.equal(code, 1);
      assert.match(stderr, new RegExp(`^error: the ${victim}( \\d)? was ended by SIGKILL.*logs: `));
      await assertGone(processes);
    });
  }

  it("ends with the reason and the exit status of a worker that cannot start", async () => {
    const args = [COORDINATOR_MAIN, "demo", "--dir", dir, "--engine", "abacus"];
    const { code, stderr } = await startNode(args).exited();
    assert.equal(code, 2);
    assert.match(stderr, /^error: worker \d: .*abacus.*\n$/);
  });

  it("names the package to install when there is no redis-server", async () => {
    const env = { PATH: path.dirname(dir) };
    const { code, stderr } = await startNode(demoArgs(), { env }).exited();
    assert.equal(code, 12);
    assert.match(
      stderr,
      /^error: redis-server is not installed.*apt-get install redis-server.*\n$/,
    );
  });

  it("refuses a folder with something in it, and a recipe value that makes no sense", async () => {
    await mkdir(dir);
    await writeFile(path.join(dir, "thesis.txt"), "");
    const full = await startNode(demoArgs()).exited();
    assert.equal(full.code, 2);
    assert.match(full.stderr, /is not empty/);

    const wrong = await startNode(demoArgs("--set", "pretrain.epochs=none")).exited();
    assert.equal(wrong.code, 2);
    assert.match(wrong.stderr, /pretrain\.epochs/);
  });
});

/** Waits for the first training step; gives Redis, the coordinator and two workers. */
async function trainingProcesses(demo: TestProcess): Promise<readonly Process[]> {
  await demo.output(/pretrain epoch/);
  const tree = processTree(demo.pid);
  const kinds = [/redis-server/, /coordinator\/main\.js start/, /worker\/main\.js start/];
  const counts = kinds.map((kind) => tree.filter(({ command }) => kind.test(command)).length);
  assert.deepEqual(counts, [1, 1, 2], JSON.stringify(tree));
  return tree;
}

/** All processes that descend from `root`, as Linux lists them in /proc. */
function processTree(root: number): Process[] {
  const pids = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
  const parents = new Map(pids.map((pid) => [pid, parentOf(pid)]));
  const descends = (pid: number | undefined): boolean =>
    pid !== undefined && (pid === root || descends(parents.get(pid)));
  return pids
    .filter((pid) => pid !== root && descends(pid))
    .map((pid) => ({ pid, command: readProc(pid, "cmdline").replaceAll("\0", " ") }));
}

function parentOf(pid: number): number | undefined {
  const match = /^PPid:\s+(\d+)$/m.exec(readProc(pid, "status"));
  return match ? Number(match[1]) : undefined;
}

function readProc(pid: number, name: string): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, "utf8");
  } catch {
    // It has ended since it was listed.
    return "";
  }
}

/** A killed process lingers until its parent, or init, has waited for it. */
async function assertGone(processes: readonly Process[]): Promise<void> {
  const deadline = performance.now() + DEADLINE_MS;
  let left = processes.filter(({ pid }) => isAlive(pid));
  while (left.length > 0 && performance.now() < deadline) {
    await delay(20);
    left = left.filter(({ pid }) => isAlive(pid));
  }
  assert.deepEqual(left, []);
}
