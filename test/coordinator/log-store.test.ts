/** The contract of kept logs, on a real redis-server. */

import assert from "node:assert/strict";
import { Redis } from "ioredis";
import type { KeptLine, LogBatch, LogQuery, LogStore } from "../../coordinator/store/log-store.ts";
import { openStore, type Store } from "../../coordinator/store/store.ts";
import { openLog } from "../../proto/log.ts";
import type { LogRecord } from "../../proto/log-line.ts";
import { startRedis, type TestRedis } from "../support/processes.ts";
import { until } from "../support/until.ts";
import { newExperiment } from "./experiments.ts";

const log = openLog({ level: "silent", process: "test" });

function record(event: string, more: Partial<LogRecord> = {}): LogRecord {
  const place = { unixMs: 5, generation: 1, detailsJson: "", workerName: "w" };
  return { ...place, level: "info", event, ...more };
}

function records(count: number, first = 1): LogRecord[] {
  return Array.from({ length: count }, (_, k) => record(`line ${first + k}`));
}

function events({ lines }: { readonly lines: readonly KeptLine[] }): string[] {
  return lines.map(({ event }) => event);
}

describe("log store", function () {
  this.timeout(20_000);
  let redis: TestRedis;
  let store: Store;
  let logs: LogStore;
  let prefixes = 0;

  before(async () => {
    redis = await startRedis();
  });
  after(() => redis.close());

  const open = async (prefix: string): Promise<Store> => {
    const opened = await openStore({ redisUrl: redis.url, log, prefix });
    const candidate = { address: "127.0.0.1:1", seat: "", isAlone: false };
    assert.equal(await opened.leadership.campaign(candidate), undefined);
    return opened;
  };
  beforeEach(async () => {
    store = await open(`logs${prefixes++}`);
    logs = store.logs;
  });
  afterEach(() => store.close());

  const append = async (id: string, lines: readonly LogRecord[], dropped = 0): Promise<void> => {
    logs.append(id, lines, dropped);
    await logs.settled();
  };
  const read = (query: Partial<LogQuery> = {}): Promise<LogBatch> =>
    logs.read({ experimentId: "a-1", ...query });

  it("gives back what was appended, numbered, by experiment", async () => {
    const full = record("one", { stage: "linear", rank: 3, step: 9, detailsJson: '{"k":1}' });
    await append("a-1", [full, record("two")]);
    await append("b-2", [record("other")]);
    const lines = [
      { ...full, cursor: 1 },
      { ...record("two"), cursor: 2 },
    ];
    assert.deepEqual(await read(), { dropped: 0, lines });
    assert.deepEqual(await read({ experimentId: "none" }), { dropped: 0, lines: [] });
  });

  it("is there for the next coordinator, which counts on", async () => {
    await append("a-1", records(2));
    await store.close();
    store = await open(`logs${prefixes - 1}`);
    logs = store.logs;
    await append("a-1", records(1, 3));
    const { lines } = await read();
    assert.deepEqual(
      lines.map(({ event, cursor }) => [event, cursor]),
      [
        ["line 1", 1],
        ["line 2", 2],
        ["line 3", 3],
      ],
    );
  });

  it("picks by rank, by level, after a line, and the newest", async () => {
    const ranks = [0, 1, 0, 1].map((rank, k) => record(`line ${k + 1}`, { rank }));
    await append("a-1", [...ranks, record("bad", { rank: 1, level: "error" }), record("gang")]);
    assert.deepEqual(events(await read({ rank: 1 })), ["line 2", "line 4", "bad"]);
    assert.deepEqual(events(await read({ level: "warn" })), ["bad"]);
    assert.deepEqual(events(await read({ after: 4 })), ["bad", "gang"]);
    assert.deepEqual(events(await read({ last: 2 })), ["bad", "gang"]);
    assert.deepEqual(events(await read({ last: 2, rank: 0 })), ["line 1", "line 3"]);
    assert.deepEqual(events(await read({ last: 99, rank: 0 })), ["line 1", "line 3"]);
  });

  it("tells how many lines were lost on the way, and where", async () => {
    await append("a-1", records(1));
    await append("a-1", records(1, 9), 7);
    const pages: LogBatch[] = [];
    for await (const page of logs.pages({ experimentId: "a-1" })) pages.push(page);
    assert.deepEqual(
      pages.map((page) => [page.dropped, ...events(page)]),
      [
        [0, "line 1"],
        [7, "line 9"],
      ],
    );
  });

  it("keeps the newest lines of many, and tells how many are gone", async () => {
    for (let first = 1; first <= 12_000; first += 4_000) {
      await append("a-1", records(4_000, first));
    }
    const { dropped, lines } = await read();
    assert.ok(lines.length >= 5_000 && lines.length < 5_200, `${lines.length} are kept`);
    assert.equal(dropped + lines.length, 12_000);
    assert.equal(lines.at(-1)?.event, "line 12000");
    assert.deepEqual(
      events(await read({ last: 300 })),
      records(300, 11_701).map((r) => r.event),
    );
    assert.equal((await read({ last: 300 })).dropped, 0);
  });

  it("takes no more lines at once than it has room for, and counts the rest", async () => {
    logs.append("a-1", records(6_000));
    await logs.settled();
    await append("a-1", [record("next")]);
    const { dropped, lines } = await read();
    assert.equal(lines.at(-1)?.event, "next");
    assert.equal(lines.at(-1)?.cursor, 6_001);
    assert.equal(dropped + lines.length, 6_001);
  });

  it("follows what comes, to each reader at its own pace", async () => {
    await append("a-1", records(2));
    const ending = new AbortController();
    const seen: string[] = [];
    const slow = logs.follow({ experimentId: "a-1", last: 1 }, ending.signal);
    assert.deepEqual(events((await slow.next()).value as LogBatch), ["line 2"]);
    await append("a-1", records(3, 3));
    for await (const batch of logs.follow({ experimentId: "a-1" }, ending.signal)) {
      seen.push(...events(batch));
      if (seen.length === 5) logs.append("a-1", [record("last")]);
      if (seen.length === 6) break;
    }
    assert.deepEqual(seen.slice(-2), ["line 5", "last"]);
    const rest = (await slow.next()).value as LogBatch;
    assert.deepEqual(events(rest), ["line 3", "line 4", "line 5", "last"]);
    const over = slow.next();
    ending.abort();
    assert.equal((await over).done, true);
  });

  it("goes with the experiment", async () => {
    const experiment = newExperiment({ id: "a-1", workers: [1] });
    await store.add(experiment, "{}");
    await append("a-1", records(2));
    store.forget(experiment);
    await store.flush();
    assert.deepEqual(await read(), { dropped: 0, lines: [] });
    const client = new Redis(redis.url);
    assert.equal(await client.exists(logs.keyOf("a-1")), 0);
    client.disconnect();
  });
});

describe("log store without Redis", function () {
  this.timeout(20_000);

  it("loses lines without a word, and tells how many when Redis is back", async () => {
    const redis = await startRedis();
    const store = await openStore({ redisUrl: redis.url, log, prefix: "away" });
    await store.leadership.campaign({ address: "127.0.0.1:1", seat: "", isAlone: false });
    const { logs } = store;
    logs.append("a-1", records(1));
    await logs.settled();
    await redis.crash();
    logs.append("a-1", records(3, 2));
    await logs.settled();
    await assert.rejects(logs.read({ experimentId: "a-1" }), /REDIS_UNREACHABLE|does not answer/);
    await redis.restart();
    await until("Redis to be back", async () => {
      logs.append("a-1", [record("back")]);
      await logs.settled();
      return await logs.read({ experimentId: "a-1" }).catch(() => undefined);
    });
    const { dropped, lines } = await logs.read({ experimentId: "a-1" });
    assert.equal(lines.at(-1)?.event, "back");
    assert.ok(dropped >= 3, `${dropped} lines were lost`);
    await store.close();
    await redis.close();
  });
});
