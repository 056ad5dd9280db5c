/** What the images of the Dockerfile run, in root folders that are put together as it says. */

import assert from "node:assert/strict";
import { chown, mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { stringify } from "yaml";
import { tinyRecipe, writeImages } from "../support/cluster.ts";
import { TARGETS, type Target } from "../support/dockerfile.ts";
import { type Exit, startProcess, type TestProcess, tempDir } from "../support/processes.ts";
import {
  type ContainerOptions,
  commandProcess,
  firstProcess,
  openScratchRoots,
  type ScratchRoot,
} from "../support/scratch-root.ts";
import { until } from "../support/until.ts";

/** User and group of the images. */
const ID = 10_001;
const TOKEN = { SIMCLR_JOIN_TOKEN: "of the cluster" };
const REDIS = { REDIS_URL: "redis://127.0.0.1:6379" };

describe("the images", function () {
  this.timeout(60_000);
  let temporary: Awaited<ReturnType<typeof tempDir>>;
  let redis: TestProcess;
  let roots: ReadonlyMap<Target, ScratchRoot>;
  const volumes: Record<"data" | "state" | "work_dirs", string> = {
    data: "",
    state: "",
    work_dirs: "",
  };

  before(async () => {
    temporary = await tempDir();
    for (const name of ["data", "state", "work_dirs"] as const) {
      volumes[name] = path.join(temporary.dir, name);
      await mkdir(volumes[name]);
      await chown(volumes[name], ID, ID);
    }
    roots = await openScratchRoots(TARGETS, temporary.dir);
    // A network of its own, so that everything can have the ports that the images say.
    const server = "redis-server --dir $0 --save '' --bind 127.0.0.1";
    redis = startProcess("unshare", [
      ...["--net", "sh", "-c", `ip link set lo up && exec ${server}`, temporary.dir],
    ]);
    await redis.output(/Ready to accept connections/);
  });
  after(async () => {
    await redis?.end("SIGKILL");
    await temporary?.remove();
  });

  const rootOf = (target: Target): ScratchRoot => roots.get(target) ?? assert.fail(target);
  const container = (
    target: Target,
    command: readonly string[],
    options: Partial<ContainerOptions> = {},
  ): TestProcess =>
    rootOf(target).start(command, { network: `/proc/${redis.pid}/ns/net`, ...options });
  /** As `docker run IMAGE` does, or `docker run IMAGE ARGS`. */
  const start = (
    target: Target,
    more: readonly string[] = [],
    options: Partial<ContainerOptions> = {},
  ): TestProcess => {
    const { entrypoint, cmd } = rootOf(target).config;
    return container(target, [...entrypoint, ...cmd, ...more], options);
  };
  const health = (target: Target): Promise<Exit> =>
    container(target, rootOf(target).config.healthcheck).exited();
  /** Through the first process of the container, as an engine does it. */
  const terminate = async (running: TestProcess): Promise<Exit> => {
    process.kill(firstProcess(running) ?? assert.fail("it runs"), "SIGTERM");
    return await running.exited();
  };

  it("run as a user that may write nothing but /tmp and what is mounted for it", async () => {
    for (const target of TARGETS) {
      const passwd = await readFile(path.join(rootOf(target).dir, "etc", "passwd"), "utf8");
      assert.match(passwd, new RegExp(`^simclr:x:${ID}:${ID}:`, "m"));
      const script =
        "id -u; id -g; grep CapBnd /proc/self/status; " +
        "touch /tmp/a /work_dirs/a && for d in / /app /etc /usr/local/bin /data; do " +
        'touch "$d/a" && echo "wrote to $d"; done';
      const work = { data: volumes.data, work_dirs: volumes.work_dirs };
      const { stdout } = await container(target, ["sh", "-c", script], { volumes: work }).exited();
      assert.equal(stdout, `${ID}\n${ID}\nCapBnd:\t0000000000000000\n`, target);
    }
  });

  it("say what is missing when they are started with nothing", async () => {
    const open = await start("coordinator").exited();
    assert.deepEqual([open.code, open.stderr.split("\n").length], [2, 2], open.stderr);
    assert.match(open.stderr, /--tls-cert, --tls-key and --tls-ca, or say --plaintext/);
    const gpu = await start("worker-gpu", ["--plaintext"], { env: TOKEN }).exited();
    assert.equal(gpu.code, 10);
    assert.match(gpu.stderr, /tfjs-node-gpu/);
  });

  it("train together, are healthy, and end as the exit codes say", async () => {
    await writeImages(volumes.data, { train: 8, val: 2 });
    const recipe = stringify(tinyRecipe("/data", { stages: ["pretrain"] }));
    await writeFile(path.join(volumes.data, "tiny.yaml"), recipe);
    const { data, work_dirs } = volumes;
    const env = { ...TOKEN, ...REDIS };

    const coordinator = start("coordinator", ["--plaintext"], { env });
    const worker = start("worker-cpu", ["--plaintext"], {
      env: TOKEN,
      volumes: { data, work_dirs },
    });
    try {
      await coordinator.output(/coordinator ready/);
      await worker.logged(/joined the fleet/);
      assert.match(worker.stderr(), /computing with onednn/);
      assert.match(worker.stderr(), /decoded by libjpeg-turbo/);
      for (const target of ["coordinator", "worker-cpu"] as const) {
        assert.equal((await health(target)).code, 0, target);
      }
      const submitted = await container(
        "coordinator",
        ["coordinator", "submit", "/data/tiny.yaml", "--watch", "--plaintext"],
        { env: TOKEN, volumes: { data } },
      ).exited();
      assert.equal(submitted.code, 0, submitted.stderr);
      assert.match(submitted.stdout, /succeeded/);

      assert.equal((await terminate(worker)).code, 40);
      assert.equal((await terminate(coordinator)).code, 0);
      for (const target of ["coordinator", "worker-cpu"] as const) {
        assert.equal((await health(target)).code, 1, target);
      }
    } finally {
      await Promise.all([coordinator.end("SIGKILL"), worker.end("SIGKILL")]);
    }
  });

  it("end at once when they are told to before the command listens to signals", async () => {
    const worker = start("worker-cpu", ["--plaintext"], { env: TOKEN });
    try {
      await until("the command runs", () => commandProcess(worker));
      assert.equal((await terminate(worker)).code, 143);
    } finally {
      await worker.end("SIGKILL");
    }
  });
});
