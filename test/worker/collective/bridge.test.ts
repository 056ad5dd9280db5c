import assert from "node:assert/strict";
import { once } from "node:events";
import { MessageChannel, Worker } from "node:worker_threads";
import { FleetError } from "../../../proto/errors.ts";
import { bridgeGroup, connectGroup, type GroupBridge } from "../../../worker/collective/bridge.ts";
import {
  type BridgeReply,
  type BridgeRequest,
  ENDED,
  FAILED,
  newControl,
  STATE_WORD,
} from "../../../worker/collective/bridge-layout.ts";
import type { PeerGroup } from "../../../worker/collective/peer-group.ts";
import { sharedFloats } from "../../../worker/collective/process-group.ts";
import type { EngineResult, EngineTask } from "./engine-thread.ts";
import { formGang, type Gang, type Overrides } from "./gang.ts";

describe("the bridge between main thread and engine thread", function () {
  this.timeout(30_000);
  let gang: Gang;
  let bridges: GroupBridge[];

  async function start(worldSize: number, options: Overrides = {}): Promise<void> {
    gang = await formGang(worldSize, options);
    bridges = await gang.each((group) => bridgeGroup(group));
  }
  afterEach(async () => {
    for (const bridge of bridges) bridge.close();
    await gang.close();
  });

  /** Runs the task on an engine thread that is connected to the group. */
  function startEngine(group: PeerGroup, task: EngineTask): Worker {
    const { link } = bridges[group.rank]!;
    return new Worker(new URL("./engine-thread.js", import.meta.url), {
      workerData: { link, task },
      transferList: [link.port],
    });
  }

  async function run(group: PeerGroup, task: EngineTask): Promise<EngineResult> {
    const engine = startEngine(group, task);
    const [[result]] = await Promise.all([once(engine, "message"), once(engine, "exit")]);
    return result;
  }

  for (const [worldSize, sharedMemory] of [
    [1, true],
    [3, true],
    [3, false],
  ] as const) {
    const how = sharedMemory ? "memory shared" : "nothing shared";
    it(`carries sums and gathers under way together, ${worldSize} ranks, ${how}`, async () => {
      await start(worldSize, { sharedMemory });
      const results = await gang.each((group) => run(group, "reduce"));
      const sum = (worldSize * (worldSize + 1)) / 2;
      const ranks = Array.from({ length: worldSize }, (_, rank) => rank);
      for (const result of results) {
        assert.deepEqual(result, { values: [sum, sum, sum, -1, ...ranks] });
      }
    });
  }

  for (const sharedMemory of [true, false]) {
    it(`sums what it has allocated, ${sharedMemory ? "shared" : "not shared"}`, async () => {
      await start(3, { sharedMemory });
      for (const result of await gang.each((group) => run(group, "allocated"))) {
        assert.deepEqual(result, { values: [6, 6, 6, 6, 6] });
      }
      const sizes = [10, 10_000, 200_000, 1_000_000];
      const allReduceBytes = sizes.reduce((sum, length) => sum + 4 * length, 0);
      for (const group of gang.groups) {
        const { allReduces, allReduceBytes: bytes } = group.stats();
        assert.deepEqual([allReduces, bytes], [4, allReduceBytes]);
      }
    });
  }

  it("finds ranks that do different things in an exchange", async () => {
    await start(2);
    const [first] = await gang.each((group) => run(group, "diverge"));
    assert.equal(first?.error?.code, "GENERATION_ABORTED");
    const told =
      /MISMATCHED .* rank 1 posts all-gather 0 of 1 floats where this rank has barrier 0/;
    assert.match(first?.error?.message ?? "", told);
  });

  it("names the rank that does not come to an exchange in time", async () => {
    await start(2, { opTimeoutMs: 1000 });
    const [own, other] = gang.groups as [PeerGroup, PeerGroup];
    const [{ error }] = await Promise.all([run(own, "twice"), run(other, "once")]);
    const told = /all-gather 1 took longer than 1000 ms: no contribution from rank 1 \(worker w1/;
    assert.match(error?.message ?? "", told);
    assert.equal(error?.detail["rank"], 1);
  });

  it("names the rank that has left before an exchange", async () => {
    await start(2);
    const [own, other] = gang.groups as [PeerGroup, PeerGroup];
    const leaves = run(other, "once").then(() => other.close());
    const [{ error }] = await Promise.all([run(own, "twice"), leaves]);
    assert.match(error?.message ?? "", /rank 1 \(worker w1 .*\) left before this operation/);
  });

  it("leaves to each rank the sum of its part", async () => {
    await start(3);
    for (const result of await gang.each((group) => run(group, "scatter"))) {
      assert.deepEqual(result, { values: [6, 6] });
    }
  });

  it("returns gathers that later ones leave alone", async () => {
    await start(2);
    const values = [0, 10, 1, 10, 600_000, 0.5, 1.5, 7, 7];
    for (const result of await gang.each((group) => run(group, "gather"))) {
      assert.deepEqual(result, { values });
    }
  });

  it("has counted an all-reduce's time when its wait returns", async () => {
    await start(2);
    for (const result of await gang.each((group) => run(group, "time"))) {
      assert.deepEqual(result, { values: [0, 1, 0, 1, 0] });
    }
  });

  for (const sharedMemory of [true, false]) {
    const how = sharedMemory ? "memory shared" : "nothing shared";
    it(`counts the time that a rank waits for one that comes late, ${how}`, async () => {
      await start(2, { sharedMemory });
      const [, prompt] = await gang.each((group) => run(group, "late"));
      const { values = [] } = prompt as EngineResult;
      assert.equal(values.length, 5);
      // It may itself come a little late.
      for (const waited of values.slice(0, 4)) assert.ok(waited > values[4]! / 2, `${values}`);
    });
  }

  it("broadcasts into shared memory", async () => {
    await start(3);
    for (const result of await gang.each((group) => run(group, "broadcast"))) {
      assert.deepEqual(result, { values: [1, 1] });
    }
  });

  it("throws in the engine thread what has ended the generation", async () => {
    await start(2);
    const [own] = gang.groups as [PeerGroup];
    const result = run(own, "hang");
    gang.groups[1]!.abort(new FleetError("LOSS_NOT_FINITE", "the loss is NaN"));
    const { error } = await result;
    assert.equal(error?.code, "GENERATION_ABORTED");
    assert.match(error?.message ?? "", /rank 1 .* stopped: the loss is NaN/);
    assert.equal(error?.detail["worker"], "w1");
  });

  it("wakes an engine thread that still waits when it closes", async () => {
    await start(2);
    const [own] = gang.groups as [PeerGroup];
    const engine = startEngine(own, "hang");
    const result = once(engine, "message");
    await once(engine, "online");
    bridges[0]!.close();
    const [{ error }] = (await result) as [EngineResult];
    assert.equal(error?.code, "GENERATION_ABORTED");
    assert.match(error?.message ?? "", /left the group/);
  });
});

describe("the engine thread's end of the bridge", () => {
  it("tells why the generation ended when that comes right behind an allocation", () => {
    const { port1, port2 } = new MessageChannel();
    const control = newControl();
    const words = new Int32Array(control);
    const tell = (reply: BridgeReply) => port1.postMessage(reply);
    // A main thread that hears of the end when it has replied, and not marked the slot yet.
    const postMessage = ({ slot }: BridgeRequest) => {
      tell({ type: "allocated", floats: sharedFloats(8) });
      tell({ type: "ended", error: new FleetError("GENERATION_ABORTED", "rank 1 died").toPlain() });
      Atomics.store(words, STATE_WORD, ENDED);
      Atomics.store(words, slot, FAILED);
    };
    const port = Object.assign(port2, { postMessage });
    const place = { rank: 0, worldSize: 2, silenceMs: 1000, exchange: undefined };
    const group = connectGroup({ port, control, ...place });
    assert.throws(() => group.allocate(8), /rank 1 died/);
    port1.close();
  });
});
