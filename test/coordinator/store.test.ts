/** The contract of the store, on a real redis-server. */

import assert from "node:assert/strict";
import { Redis } from "ioredis";
import type { Experiment } from "../../coordinator/experiment/experiment.ts";
import { startTimeline } from "../../coordinator/experiment/timeline.ts";
import type { Verdict } from "../../coordinator/store/stage-queue.ts";
import { openStore, type Store } from "../../coordinator/store/store.ts";
import { openLog } from "../../proto/log.ts";
import type { StageName } from "../../proto/recipe.ts";
import { freePort, startRedis, type TestRedis } from "../support/processes.ts";
import { until } from "../support/until.ts";
import { newExperiment } from "./experiments.ts";

const log = openLog({ level: "silent", process: "test" });

describe("store", function () {
  this.timeout(20_000);
  let redis: TestRedis;
  let store: Store;
  let prefixes = 0;
  let prefix = "";

  before(async () => {
    redis = await startRedis();
  });
  after(() => redis.close());

  const open = async (): Promise<Store> => {
    const opened = await openStore({ redisUrl: redis.url, log, prefix });
    const candidate = { address: "127.0.0.1:1", seat: "", isAlone: false };
    assert.equal(await opened.leadership.campaign(candidate), undefined);
    return opened;
  };
  beforeEach(async () => {
    prefix = `test${prefixes++}`;
    store = await open();
  });
  afterEach(() => store.close());

  /** Opens the store anew, as the next coordinator does. */
  const reopen = async (): Promise<void> => {
    await store.close();
    store = await open();
  };

  /** Starts the queue; `verdicts` answers, and every question is noted. */
  const start = async (
    verdict: (id: string, stage: StageName) => Verdict,
    experiments: readonly Experiment[] = [],
  ): Promise<string[]> => {
    const asked: string[] = [];
    await store.start(
      (id, stage) => {
        asked.push(`${id} ${stage}`);
        return verdict(id, stage);
      },
      () => experiments.map((experiment) => ({ experiment, recipeJson: "{}" })),
    );
    return asked;
  };
  const addQueued = async (experiment: Experiment): Promise<void> => {
    await store.add(experiment, "{}");
    store.requeue(experiment);
    await store.flush();
  };
  const park = (): Verdict => ({ type: "park" });
  const depth = async (state: string): Promise<number> => (await store.queueDepth())[state] ?? 0;

  describe("record", () => {
    /** Puts another record in place of that of a-1. */
    const overwrite = async (record: object): Promise<void> => {
      const client = new Redis(redis.url);
      await client.set(`${prefix}:experiment:a-1`, JSON.stringify(record));
      client.disconnect();
    };

    it("comes back as it was added, in the order of submission", async () => {
      const second = newExperiment({ id: "b-2", workers: [2, 1], submittedUnixMs: 20 });
      const first = newExperiment({ id: "a-1", workers: [1], submittedUnixMs: 10 });
      await store.add(second, '{"b":2}');
      await store.add(first, '{"a":1}');
      await reopen();
      assert.deepEqual(await store.load(), [
        { experiment: first, recipeJson: '{"a":1}' },
        { experiment: second, recipeJson: '{"b":2}' },
      ]);
    });

    it("comes back with its timeline", async () => {
      const experiment = newExperiment({ id: "a-1", workers: [1] });
      await store.add(experiment, "{}");
      const timeline = startTimeline("pretrain", 5);
      store.save({ ...experiment, timeline });
      store.save({ ...experiment, timeline, lostSteps: 7 });
      await reopen();
      const [stored] = await store.load();
      assert.deepEqual(stored?.experiment, { ...experiment, timeline, lostSteps: 7 });
    });

    it("comes back with its curves, and takes them along when it is forgotten", async () => {
      const experiment = newExperiment({ id: "a-1", workers: [1] });
      await store.add(experiment, "{}");
      const training = [1, 2].map((step) => ({ step, loss: 4 / step, lr: 0.5 }));
      const quality = [{ step: 2, knn: 51.5 }];
      const curves = { pretrain: { training, quality, lossBound: 4.5 } };
      store.save({ ...experiment, curves });
      await reopen();
      const [stored] = await store.load();
      assert.deepEqual(stored?.experiment.curves, curves);

      const client = new Redis(redis.url);
      const keys = () => client.keys(`${prefix}:*a-1*`);
      assert.ok((await keys()).includes(`${prefix}:curves:a-1`));
      store.forget(experiment);
      await store.flush();
      assert.deepEqual(await keys(), []);
      client.disconnect();
    });

    it("of version 1 is understood", async () => {
      const experiment = newExperiment({ id: "a-1", workers: [1] });
      await store.add(experiment, "{}");
      const { timeline: _, maxRestarts: __, ...rest } = experiment;
      const change = { unixMs: 5, from: "waiting", to: "cancelled", stage: "pretrain" } as const;
      const history = [{ ...change, generation: 3, because: "cancelled by an operator" }];
      const phase = { status: "cancelled" };
      const stages = [{ name: "pretrain", workers: 4 }];
      const old = { ...rest, stages, restarts: 2, history, phase };
      await overwrite({ version: 1, experiment: old });
      const [stored] = await store.load();
      const present = [{ name: "pretrain", ranks: 4, sizes: [4], waitMs: 0 }];
      assert.deepEqual(stored?.experiment.stages, present);
      const { restarts, maxRestarts, timeline, phase: now } = stored?.experiment ?? {};
      assert.deepEqual(restarts, { failure: 2, preemption: 0, membership: 0 });
      assert.equal(maxRestarts, 3);
      assert.deepEqual(now, { status: "cancelled", because: "cancelled by an operator" });
      assert.deepEqual(timeline, [
        {
          ...{ ...change, generation: 3, sequence: 1, type: "state" },
          message: "cancelled by an operator",
        },
      ]);
    });

    it("is the one that was saved last", async () => {
      const experiment = newExperiment({ id: "a-1", workers: [1] });
      await store.add(experiment, "{}");
      for (let lostSteps = 1; lostSteps <= 100; lostSteps++)
        store.save({ ...experiment, lostSteps });
      await store.flush();
      const [stored] = await store.load();
      assert.equal(stored?.experiment.lostSteps, 100);
    });

    it("of a later version is left alone", async () => {
      await store.add(newExperiment({ id: "a-1", workers: [1] }), "{}");
      await overwrite({ version: 99, experiment: {} });
      assert.deepEqual(await store.load(), []);
    });

    it("is gone when it is forgotten, and its jobs with it", async () => {
      const experiment = newExperiment({ id: "a-1", workers: [1, 1] });
      await addQueued(experiment);
      store.forget(experiment);
      await store.flush();
      assert.deepEqual(await store.load(), []);
      assert.equal(await depth("prioritized"), 0);
      assert.equal(await depth("waiting-children"), 0);
    });
  });

  describe("generations", () => {
    it("rise, and are never drawn twice", async () => {
      const draw = (count: number) => store.drawGenerations(count, 0);
      const drawn = [...(await draw(3)), ...(await draw(2))];
      await reopen();
      drawn.push(...(await draw(1)));
      assert.deepEqual(drawn, [1, 2, 3, 4, 5, 6]);
    });

    it("are above whatever is known to be used, also where Redis has forgotten it", async () => {
      assert.deepEqual(await store.drawGenerations(2, 40), [41, 42]);
      assert.deepEqual(await store.drawGenerations(1, 40), [43]);
    });
  });

  describe("queue", () => {
    const experiment = newExperiment({ id: "a-1", workers: [2, 1] });

    it("hands the first stage over and parks its job, with the next stage behind it", async () => {
      await addQueued(experiment);
      const asked = await start(park);
      await until("a parked job", async () => (await depth("delayed")) === 1);
      assert.deepEqual(asked, ["a-1 pretrain"]);
      assert.equal(await depth("waiting-children"), 1);
      assert.equal(await depth("active"), 0);
    });

    it("hands the next stage over when the first has ended", async () => {
      await addQueued(experiment);
      let ended = "";
      const asked = await start((_, stage) => (stage === ended ? { type: "complete" } : park()));
      await until("pretrain", async () => (await depth("delayed")) === 1);

      ended = "pretrain";
      store.stageEnded({ ...experiment, stageIndex: 1 }, "pretrain");
      await until("linear", () => asked.includes("a-1 linear"));
      await until("its park", async () => (await depth("delayed")) === 1);
      assert.equal(await depth("completed"), 1);

      ended = "linear";
      store.stageEnded(experiment, "linear");
      await until("the end", async () => (await depth("completed")) === 2);
    });

    it("wakes a job that is only just being parked", async () => {
      await addQueued(experiment);
      let isEnded = false;
      await start(() => {
        if (isEnded) return { type: "complete" };
        isEnded = true;
        store.stageEnded({ ...experiment, stageIndex: 1 }, "pretrain");
        return park();
      });
      await until("both stages", async () => (await depth("completed")) === 2);
    });

    it("fails the whole flow with a stage, without another try", async () => {
      await addQueued(experiment);
      const asked = await start(() => ({ type: "fail", because: "no images" }));
      await until("two failed jobs", async () => (await depth("failed")) === 2);
      assert.deepEqual(asked, ["a-1 pretrain"]);
    });

    it("keeps nothing of a cancelled experiment", async () => {
      await addQueued(experiment);
      await start(park);
      await until("pretrain", async () => (await depth("delayed")) === 1);
      store.stageEnded(
        { ...experiment, phase: { status: "cancelled", because: "told to" } },
        "pretrain",
      );
      await store.flush();
      assert.deepEqual([await depth("delayed"), await depth("waiting-children")], [0, 0]);
    });

    it("queues the remaining stages again when it is asked to", async () => {
      await addQueued(experiment);
      let verdict: Verdict = { type: "fail", because: "no images" };
      const asked = await start(() => verdict);
      await until("the failure", async () => (await depth("failed")) === 2);

      verdict = { type: "park" };
      store.requeue({ ...experiment, stageIndex: 1 });
      await until("linear", () => asked.includes("a-1 linear"));
      await until("its park", async () => (await depth("delayed")) === 1);
    });

    it("lets experiments of a higher priority go first", async () => {
      for (const [id, priority] of [
        ["low-1", -5],
        ["normal-1", 0],
        ["high-1", 7],
      ] as const) {
        await addQueued(newExperiment({ id, workers: [1], priority }));
      }
      const asked = await start(park);
      await until("three jobs", () => asked.length === 3);
      assert.deepEqual(asked, ["high-1 pretrain", "normal-1 pretrain", "low-1 pretrain"]);
    });

    it("asks about parked stages at once after a restart of the coordinator", async () => {
      await addQueued(experiment);
      await start(park);
      await until("the park", async () => (await depth("delayed")) === 1);
      await reopen();
      assert.deepEqual(await start(park, [experiment]), ["a-1 pretrain"]);
    });

    it("makes up for a promotion that was lost in a crash", async () => {
      await addQueued(experiment);
      await start(park);
      await until("the park", async () => (await depth("delayed")) === 1);
      await reopen();
      const next = { ...experiment, stageIndex: 1 };
      const asked = await start(
        (_, stage) => (stage === "pretrain" ? { type: "complete" } : park()),
        [next],
      );
      await until("linear", () => asked.includes("a-1 linear"));
    });

    it("queues an experiment again whose jobs were lost", async () => {
      await addQueued(experiment);
      store.stageEnded(
        { ...experiment, phase: { status: "cancelled", because: "told to" } },
        "pretrain",
      );
      await reopen();
      const asked = await start(park, [experiment]);
      await until("pretrain", () => asked.includes("a-1 pretrain"));
    });
  });

  it("goes on where it was when Redis comes back from a crash", async () => {
    const experiment = newExperiment({ id: "a-1", workers: [1] });
    await addQueued(experiment);
    const asked = await start(park);
    await until("the park", async () => (await depth("delayed")) === 1);
    await store.drawGenerations(5, 0);

    await redis.crash();
    assert.equal(await store.isReachable(), false);
    await assert.rejects(store.drawGenerations(1, 0), { code: "REDIS_UNREACHABLE" });
    await assert.rejects(store.add(newExperiment({ id: "b-1", workers: [1] }), "{}"), {
      code: "REDIS_UNREACHABLE",
    });
    store.save({ ...experiment, lostSteps: 3 });
    store.stageEnded(experiment, "pretrain");

    await redis.restart();
    await until("Redis", () => store.isReachable());
    assert.deepEqual(await store.drawGenerations(1, 0), [6]);
    await store.flush();
    const stored = await store.load();
    assert.deepEqual(
      stored.map((one) => [one.experiment.id, one.experiment.lostSteps]),
      [["a-1", 3]],
    );
    await until("the job's next question", () => asked.length > 1, 15_000);
  });

  describe("that cannot be opened", () => {
    it("says so in one line when nobody listens", async () => {
      const redisUrl = `redis://user:secret@127.0.0.1:${await freePort()}/0`;
      await assert.rejects(openStore({ redisUrl, log, prefix }), (error: Error) => {
        assert.match(error.message, /^Redis at 127\.0\.0\.1:\d+\/0 cannot be used: .*ECONNREFUSED/);
        assert.doesNotMatch(error.message, /secret|\n/);
        return true;
      });
    });

    it("says so when the address means nothing", async () => {
      await assert.rejects(openStore({ redisUrl: "redis://no.such.host.invalid", log, prefix }), {
        code: "REDIS_UNREACHABLE",
      });
    });
  });
});
