/** The coordinator's own redis-server: real processes. */

import assert from "node:assert/strict";
import { chmod, writeFile } from "node:fs/promises";
import path from "node:path";
import { Redis } from "ioredis";
import { startRedisServer } from "../../coordinator/store/redis-server.ts";
import { openStore } from "../../coordinator/store/store.ts";
import { openLog } from "../../proto/log.ts";
import { tempDir } from "../support/processes.ts";
import { until } from "../support/until.ts";
import { newExperiment } from "./experiments.ts";

const log = openLog({ level: "silent", process: "test" });
const experiment = newExperiment({ id: "a-1", workers: [1] });

describe("own redis-server", function () {
  this.timeout(20_000);
  let dir = "";
  let remove = async (): Promise<void> => {};

  beforeEach(async () => {
    ({ dir, remove } = await tempDir());
  });
  afterEach(() => remove());

  const open = (redisUrl: string) => openStore({ redisUrl, log, prefix: "test" });
  const openToWrite = async (redisUrl: string) => {
    const store = await open(redisUrl);
    await store.leadership.campaign({ address: "127.0.0.1:1", seat: "", isAlone: true });
    return store;
  };

  it("keeps experiments from one run to the next", async () => {
    const first = await startRedisServer(dir, log);
    const store = await openToWrite(first.url);
    await store.add(experiment, "{}");
    await store.close();
    await first.stop();

    const second = await startRedisServer(dir, log);
    const again = await open(second.url);
    assert.deepEqual(await again.load(), [{ experiment, recipeJson: "{}" }]);
    await again.close();
    await second.stop();
  });

  it("lets nobody in without its password", async () => {
    const server = await startRedisServer(dir, log);
    try {
      for (const user of ["", ":wrong@"]) {
        const url = server.url.replace(/:[0-9a-f]+@/, user);
        await assert.rejects(open(url), {
          code: "REDIS_UNREACHABLE",
          message: /cannot be used: .*(NOAUTH|WRONGPASS)/,
        });
      }
    } finally {
      await server.stop();
    }
  });

  it("refuses a folder that another coordinator uses", async () => {
    const server = await startRedisServer(dir, log);
    const store = await open(server.url);
    await assert.rejects(startRedisServer(dir, log), {
      code: "STATE_CONFLICT",
      message: /is used by the coordinator with process id \d+; .*--state-dir/,
    });
    await store.close();
    await server.stop();
  });

  it("ends the server that a crashed coordinator has left, and takes its data over", async () => {
    const orphan = await startRedisServer(dir, log);
    const store = await openToWrite(orphan.url);
    await store.add(experiment, "{}");
    await store.close();

    const server = await startRedisServer(dir, log);
    assert.notEqual(server.url, orphan.url);
    await assert.rejects(open(orphan.url), { code: "REDIS_UNREACHABLE" });
    const again = await open(server.url);
    assert.equal((await again.load()).length, 1);
    await again.close();
    await server.stop();
  });

  it("is started again when it was killed, with everything that it had", async () => {
    const server = await startRedisServer(dir, log);
    const store = await openToWrite(server.url);
    await store.add(experiment, "{}");
    const client = new Redis(server.url, { maxRetriesPerRequest: null });
    client.on("error", () => {});
    const pidOf = async () => Number(/^process_id:(\d+)/m.exec(await client.info("server"))?.[1]);
    const killed = await pidOf();
    process.kill(killed, "SIGKILL");
    await until("the next server", async () => (await pidOf()) !== killed);
    await until("the store", () => store.isReachable());
    assert.equal((await store.load()).length, 1);
    client.disconnect();
    await store.close();
    await server.stop();
  });

  it("is not kept from starting by a damaged lock", async () => {
    await writeFile(path.join(dir, "lock.json"), "{");
    const server = await startRedisServer(dir, log);
    await server.stop();
  });

  it("says which folder it cannot make", async () => {
    await writeFile(path.join(dir, "file"), "");
    await assert.rejects(startRedisServer(path.join(dir, "file", "redis"), log), {
      code: "STORAGE_FAILED",
      message: /cannot make .*file.redis/,
    });
  });

  describe("when redis-server", () => {
    const path0 = process.env["PATH"];
    afterEach(() => {
      process.env["PATH"] = path0;
    });

    it("is not installed names the package", async () => {
      process.env["PATH"] = dir;
      await assert.rejects(startRedisServer(path.join(dir, "redis"), log), {
        code: "REDIS_UNREACHABLE",
        message: /not installed.*apt-get install redis-server.*REDIS_URL/,
      });
    });

    it("ends at once passes its last words on", async () => {
      const fake = path.join(dir, "redis-server");
      await writeFile(
        fake,
        "#!/bin/sh\necho Bad file format reading the append only file\nexit 1\n",
      );
      await chmod(fake, 0o755);
      process.env["PATH"] = `${dir}:${path0}`;
      await assert.rejects(startRedisServer(path.join(dir, "redis"), log), {
        message: /ended with 1: Bad file format/,
      });
    });
  });
});
