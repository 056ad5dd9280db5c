/** No secret of a cluster is to be found where it need not be, however much the cluster says. */

import assert from "node:assert/strict";
import { readdirSync, readFileSync, statSync } from "node:fs";
import path from "node:path";
import { Redis } from "ioredis";
import { metricsPortOf, tinyRecipe, untilExperiment, useCluster } from "../support/cluster.ts";
import {
  COORDINATOR_MAIN,
  startNode,
  startRedis,
  type TestRedis,
  tempDir,
} from "../support/processes.ts";
import { until } from "../support/until.ts";

const TOKEN = "join-5e1a7c0f-token";
const PASSWORD = "redis-90b2d4e6-password";
const GUESS = "redis-11c3f5a7-guess";

/** Fails if a secret is in `text`, as it is or in base64. */
function assertSilent(text: string | Buffer, where: string): void {
  for (const secret of [TOKEN, PASSWORD, GUESS]) {
    const forms = [secret, Buffer.from(secret).toString("base64").replaceAll("=", "")];
    for (const form of forms) assert.ok(!text.includes(form), `${form} is in ${where}`);
  }
}

/** The command lines of a process and of its children. */
function commandLines(pid: number): readonly string[] {
  const own = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
  return [own, ...(children === "" ? [] : children.split(" ").map(Number)).flatMap(commandLines)];
}

/** Each key with what it holds. */
async function* readAll(redis: Redis): AsyncGenerator<readonly [key: string, held: string]> {
  for (const key of await redis.keys("*")) {
    const type = await redis.type(key);
    const readers: Readonly<Record<string, () => Promise<unknown>>> = {
      string: () => redis.get(key),
      hash: () => redis.hgetall(key),
      list: () => redis.lrange(key, 0, -1),
      set: () => redis.smembers(key),
      zset: () => redis.zrange(key, 0, "-1"),
      stream: () => redis.xrange(key, "-", "+"),
    };
    assert.ok(readers[type], `${key} is a ${type}`);
    yield [key, `${key} ${JSON.stringify(await readers[type]())}`];
  }
}

describe("the secrets of a cluster that logs everything", function () {
  this.timeout(120_000);
  const env: Record<string, string> = { SIMCLR_JOIN_TOKEN: TOKEN };
  let redis: TestRedis;
  before(async () => {
    redis = await startRedis(PASSWORD);
    env["REDIS_URL"] = redis.url;
  });
  after(() => redis.close());
  const suite = useCluster({
    images: { train: 8, val: 1 },
    workers: 0,
    flags: ["--log-level", "trace"],
    env,
  });

  it("are used", async () => {
    await suite.cluster.addWorkers(1, "--http-port", "0");
    const id = await suite.submit(tinyRecipe(suite.data, { stages: ["pretrain"] }));
    await untilExperiment(suite.cluster, id, ({ state }) => state === "succeeded", 90_000);
    const wrong = await startNode(
      [COORDINATOR_MAIN, "list", "--coordinator", suite.cluster.address],
      {
        env: { SIMCLR_JOIN_TOKEN: GUESS },
      },
    ).exited();
    assert.equal(wrong.code, 15);
    assertSilent(wrong.stdout + wrong.stderr, "a refused command's output");
  });

  it("are not in the logs", () => {
    const { coordinator, workers } = suite.cluster;
    assert.match(coordinator.stderr(), /"level":"debug"/);
    for (const { stdout, stderr } of [coordinator, ...workers]) {
      assert.match(stderr(), /"level":"info"/);
      assertSilent(stdout() + stderr(), "a log");
    }
  });

  it("are not in the metrics", async () => {
    const ports = await Promise.all(suite.cluster.workers.map(metricsPortOf));
    for (const url of [suite.cluster.http, ...ports.map((port) => `http://127.0.0.1:${port}`)]) {
      const text = await (await fetch(`${url}/metrics`)).text();
      assert.match(text, /^simclr_(worker_)?refused_/m);
      assertSilent(text, url);
    }
  });

  it("are not in Redis", async () => {
    const client = new Redis(redis.url);
    let keys = 0;
    for await (const [key, held] of readAll(client)) {
      assertSilent(held, key);
      keys += 1;
    }
    client.disconnect();
    assert.ok(keys > 3, `${keys} keys`);
  });

  it("are in no file of the runs", () => {
    const entries = readdirSync(suite.dir, { recursive: true, withFileTypes: true });
    const files = entries.filter((entry) => entry.isFile());
    const names = files.map(({ parentPath, name }) => path.join(parentPath, name));
    assert.ok(names.some((name) => name.endsWith("manifest.json")));
    for (const name of names) assertSilent(readFileSync(name), name);
  });

  it("are in no command line", () => {
    const { coordinator, workers } = suite.cluster;
    for (const { pid } of [coordinator, ...workers]) {
      for (const line of commandLines(pid)) assertSilent(line, line);
    }
  });

  it("are not in what is said of a Redis that refuses them", async () => {
    const url = redis.url.replace(PASSWORD, GUESS);
    const ports = ["--grpc-port", "0", "--http-port", "0", "--log-level", "trace"];
    const { code, stdout, stderr } = await startNode([COORDINATOR_MAIN, "start", ...ports], {
      env: { REDIS_URL: url },
    }).exited();
    assert.equal(code, 12, stderr);
    assertSilent(stdout + stderr, "its output");
  });
});

describe("the password of a coordinator's own Redis", function () {
  this.timeout(30_000);

  it("is in a file for its owner alone, and nowhere else", async () => {
    const { dir, remove } = await tempDir();
    const ports = ["--grpc-port", "0", "--http-port", "0", "--log-level", "trace"];
    const coordinator = startNode([COORDINATOR_MAIN, "start", "--state-dir", dir, ...ports]);
    await coordinator.output(/coordinator ready/);
    const lock = path.join(dir, "redis", "lock.json");
    await until("the lock", () => statSync(lock, { throwIfNoEntry: false }));
    assert.equal(statSync(lock).mode & 0o777, 0o600);
    const { url } = JSON.parse(readFileSync(lock, "utf8")) as { url: string };
    const { password } = new URL(url);
    assert.ok(password.length >= 32);
    const lines = commandLines(coordinator.pid);
    assert.ok(lines.some((line) => line.includes("redis-server")));
    for (const line of lines) assert.ok(!line.includes(password), line);
    const { stdout, stderr } = await coordinator.end();
    assert.ok(!`${stdout}${stderr}`.includes(password));
    await remove();
  });
});
