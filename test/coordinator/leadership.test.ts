/** Several coordinators on one Redis: who leads, and what the others do. */

import assert from "node:assert/strict";
import { Redis } from "ioredis";
import type { Coordinator } from "../../coordinator/start-coordinator.ts";
import type { FleetError } from "../../proto/errors.ts";
import { startFaultProxy } from "../support/fault-proxy.ts";
import { startRedis, type TestRedis } from "../support/processes.ts";
import { until } from "../support/until.ts";
import { CoordinatorRig, type RigOptions } from "./coordinator-rig.ts";
import { type FakeWorker, joinFleet } from "./fake-worker.ts";

/** So long that nobody takes over for that reason. */
const LONG_MS = 600_000;
/** So short that it ends while a test waits. */
const SHORT_MS = 600;

describe("leadership", function () {
  this.timeout(30_000);
  let redis: TestRedis;
  let client: Redis;
  const rigs: CoordinatorRig[] = [];
  before(async () => {
    redis = await startRedis();
    client = new Redis(redis.url, { maxRetriesPerRequest: null });
    client.on("error", () => {});
  });
  after(async () => {
    client.disconnect();
    await redis.close();
  });
  afterEach(async () => {
    for (const rig of rigs.splice(0).toReversed()) await rig.close();
  });

  const open = async (options: RigOptions): Promise<CoordinatorRig> => {
    const rig = await CoordinatorRig.open(redis, options);
    rigs.push(rig);
    return rig;
  };
  /** One that leads, and one that stands by for it. */
  const openTwo = async (leaderTtlMs: number, options: RigOptions = {}) => {
    const leader = await open({ leaderTtlMs, ...options });
    const standby = await open({ leaderTtlMs, prefix: leader.prefix });
    assert.deepEqual(standby.coordinator.role, { status: "standing-by", leader: leader.address });
    return { leader, standby };
  };
  const endOf = async ({ ended }: Coordinator): Promise<FleetError> =>
    await ended.catch((error: FleetError) => error);
  const read = async (rig: CoordinatorRig, path: string): Promise<[number, string]> => {
    const response = await fetch(`http://127.0.0.1:${rig.coordinator.httpPort}${path}`);
    return [response.status, await response.text()];
  };

  /** Two workers that train. */
  const train = async (rig: CoordinatorRig): Promise<{ id: string; gang: FakeWorker[] }> => {
    const gang = await rig.joinAll("w0", "w1");
    const id = await rig.submit({ pretrain: 2, linear: 1 });
    await Promise.all(gang.map((worker) => worker.accept()));
    gang[0]?.progress(1);
    await rig.untilState(id, "running");
    return { id, gang };
  };

  describe("of a coordinator that stands by", () => {
    it("is told by its health, its metrics, and to whoever calls it", async () => {
      const { leader, standby } = await openTwo(LONG_MS);
      assert.deepEqual(await read(standby, "/healthz"), [200, "ok\n"]);
      const why = `stands by for the coordinator at ${leader.address}`;
      assert.deepEqual(await read(standby, "/readyz"), [503, `${why}\n`]);
      assert.match((await read(standby, "/metrics"))[1], /^simclr_coordinator_leader 0$/m);
      assert.match((await read(standby, "/metrics"))[1], /^simclr_coordinator_epoch 1$/m);
      assert.match((await read(leader, "/metrics"))[1], /^simclr_coordinator_leader 1$/m);

      const refusal = {
        code: "COORDINATOR_UNREACHABLE",
        message: `the one at ${standby.address} ${why}`,
      };
      await assert.rejects(standby.operator.list(), refusal);
      await assert.rejects(standby.operator.watch("a-1").next(), refusal);
      const refused = await standby.refusal("w0");
      assert.equal(refused?.message, refusal.message);
      assert.equal(refused?.code, refusal.code);
    });

    it("is taken at once when the leader is stopped, with the gang that trains", async () => {
      const { leader, standby } = await openTwo(LONG_MS);
      const { id, gang } = await train(leader);
      const held = gang.map((worker) => ({ id: worker.id, running: worker.running }));
      const before = await leader.operator.get(id);
      await leader.coordinator.close({ dismiss: false });
      await standby.untilLeading();

      const [first] = await Promise.all(held.map((one) => standby.join(one.id, one)));
      first?.progress(5);
      const after = await standby.untilExperiment(
        id,
        "at 5",
        ({ progress }) => progress?.step === 5,
      );
      assert.deepEqual([after.generation, after.restarts], [before.generation, 0]);
      assert.match((await read(standby, "/metrics"))[1], /^simclr_coordinator_epoch 2$/m);
    });
  });

  it("goes on through an outage of Redis longer than its key lasts", async () => {
    const rig = await open({ leaderTtlMs: SHORT_MS });
    const { id, gang } = await train(rig);
    const before = await rig.operator.get(id);
    await redis.crash();
    const recipe = { pretrain: 1, linear: 1 };
    await assert.rejects(rig.submit(recipe), { code: "REDIS_UNREACHABLE" });
    const endsMs = performance.now() + 2 * SHORT_MS;
    await until("the key to be over", () => performance.now() > endsMs);
    gang[0]?.progress(7);
    await rig.untilExperiment(id, "at 7", ({ progress }) => progress?.step === 7);
    assert.equal(rig.coordinator.role.status, "leading");

    await redis.restart();
    const next = await until("a submission", () => rig.submit(recipe).catch(() => undefined));
    gang.forEach((worker, rank) => void worker.finish(rank, "{}"));
    const assigned = await Promise.all(gang.map((worker) => worker.accept()));
    assert.deepEqual(
      new Set(assigned.map(({ experimentId }) => experimentId)),
      new Set([id, next]),
    );
    const { generation: now, restarts, stage } = await rig.operator.get(id);
    assert.deepEqual([now > before.generation, restarts, stage], [true, 0, "STAGE_LINEAR"]);
  });

  it("gives a Redis that lost its last writes everything again", async () => {
    const rig = await open({ leaderTtlMs: SHORT_MS });
    const { id } = await train(rig);
    const waiting = await rig.submit({ pretrain: 2, linear: 1 });
    const { generation } = await rig.operator.get(id);
    const keys = await client.keys(`${rig.prefix}:*`);
    await client.del(keys);
    await redis.crash();
    await redis.restart();
    await until("the records", async () => {
      const ids = await client.zrange(`${rig.prefix}:experiments`, 0, "-1");
      return (
        ids.length === 2 && (await client.exists(`${rig.prefix}:queue:stages:${waiting}-pretrain`))
      );
    });
    await rig.operator.cancel(id);
    const spare = await rig.joinAll("w2", "w3");
    const [assignment] = await Promise.all(spare.map((worker) => worker.accept()));
    assert.equal(assignment?.experimentId, waiting);
    assert.ok(assignment.generation > generation);
  });

  describe("is lost", () => {
    it("to the standby when the leader is cut off from Redis, and the gang with it", async () => {
      const proxy = await startFaultProxy(`127.0.0.1:${redis.port}`);
      const redisUrl = `redis://${proxy.address}/0`;
      const { leader, standby } = await openTwo(SHORT_MS, { redisUrl });
      const { id, gang } = await train(leader);
      const { generation: before } = await leader.operator.get(id);
      const other = await leader.submit({ pretrain: 9, linear: 1 });
      // A renewal has to have seen the standby.
      const leaderKey = `${leader.prefix}:leader`;
      await until("a renewal", async () => (await client.pttl(leaderKey)) > SHORT_MS - 50);
      await until("the next", async () => (await client.pttl(leaderKey)) < SHORT_MS - 60);
      await until("and one more", async () => (await client.pttl(leaderKey)) > SHORT_MS - 50);
      proxy.hold();
      // What the successor will not know of must not be answered as done.
      const refused = assert.rejects(leader.operator.pause(other), { code: "LEADERSHIP_LOST" });
      const error = await endOf(leader.coordinator);
      assert.equal(error.code, "LEADERSHIP_LOST");
      assert.match(error.message, /replaced by a standby: Redis has not answered for \d+ ms/);
      assert.ok(proxy.heldBytes > 0);
      await standby.untilLeading();
      await assert.rejects(leader.operator.list(), { code: "LEADERSHIP_LOST" });
      gang[0]?.progress(99);

      const held = gang.map((worker) => ({ id: worker.id, running: worker.running }));
      const back = await Promise.all(held.map((one) => standby.join(one.id, one)));
      proxy.heal();
      back[0]?.progress(8);
      const after = await standby.untilExperiment(
        id,
        "at 8",
        ({ progress }) => progress?.step === 8,
      );
      assert.deepEqual([after.generation, after.restarts], [before, 0]);
      await refused;
      await leader.coordinator.close({ dismiss: false });
      await proxy.close();
    });

    it("to one that came while the leader was cut off, once Redis answers again", async () => {
      const proxy = await startFaultProxy(`127.0.0.1:${redis.port}`);
      const redisUrl = `redis://${proxy.address}/0`;
      const leader = await open({ leaderTtlMs: SHORT_MS, redisUrl });
      proxy.hold();
      const successor = await open({ leaderTtlMs: SHORT_MS, prefix: leader.prefix });
      await successor.untilLeading();
      assert.equal(leader.coordinator.role.status, "leading");
      proxy.heal();
      const error = await endOf(leader.coordinator);
      assert.match(error.message, /replaced by a coordinator of a later epoch \(FENCED by epoch 2/);
      await leader.coordinator.close({ dismiss: false });
      await proxy.close();
    });

    it("when a worker has met a later one, and Redis is away", async () => {
      const leader = await open({ leaderTtlMs: LONG_MS });
      await redis.crash();
      const refused = await leader.refusal("w0", { epochSeen: 7 });
      assert.equal(refused?.code, "LEADERSHIP_LOST");
      const error = await endOf(leader.coordinator);
      assert.match(error.message, /a coordinator of epoch 7, which a worker has met/);
      await redis.restart();
    });
  });

  it("rises above what a worker has met when Redis says that nobody else leads", async () => {
    const leader = await open({ leaderTtlMs: LONG_MS });
    await leader.refusal("w0", { epochSeen: 7 });
    const epoch = await until("the worker to be let in", async () => {
      const worker = await joinFleet(leader.address, "w0", { epochSeen: 7 }).catch(() => undefined);
      worker?.close();
      return worker && (await client.hget(`${leader.prefix}:leader`, "epoch"));
    });
    assert.equal(epoch, "8");
  });

  it("starts at once where a former leader listened, whose key is still there", async () => {
    const prefix = "crashed";
    const first = await open({ leaderTtlMs: LONG_MS, prefix });
    const { grpcPort } = first.coordinator;
    const keys = [`${prefix}:epoch`, `${prefix}:leader`];
    const [epoch, leader] = await Promise.all(keys.map((key) => client.hgetall(key)));
    await first.coordinator.close({ dismiss: false });
    assert.ok(epoch && leader);
    await client.hset(`${prefix}:leader`, leader);

    const elsewhere = await open({ leaderTtlMs: LONG_MS, prefix });
    assert.equal(elsewhere.coordinator.role.status, "standing-by");
    await first.start(grpcPort);
    assert.equal(first.coordinator.role.status, "leading");
  });
});
