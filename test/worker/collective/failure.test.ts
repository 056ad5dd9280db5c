import assert from "node:assert/strict";
import { FleetError } from "../../../proto/errors.ts";
import type { PeerGroup } from "../../../worker/collective/peer-group.ts";
import { sharedFloats } from "../../../worker/collective/process-group.ts";
import { formGang } from "./gang.ts";

/** Asserts that the operation fails and that rank `rank` gets the blame, in words and in data. */
async function assertBlames(operation: Promise<unknown>, rank: number, pattern: RegExp) {
  await assert.rejects(operation, (error) => {
    assert.ok(error instanceof FleetError);
    assert.equal(error.code, "GENERATION_ABORTED");
    assert.match(error.message, pattern);
    assert.match(error.message, new RegExp(`rank ${rank} \\(worker w${rank} at 127.0.0.1:\\d+\\)`));
    const { rank: blamed, worker } = error.detail;
    assert.deepEqual({ blamed, worker }, { blamed: rank, worker: `w${rank}` });
    return true;
  });
}

describe("a generation", function () {
  this.timeout(30_000);

  it("ends for all when one member aborts it, and says why", async () => {
    const gang = await formGang(3);
    const sums = gang.groups.slice(0, 2).map((group) => group.allReduce(sharedFloats(1_000_000)));
    const blames = sums.map((sum) => assertBlames(sum, 2, /stopped: the loss is NaN/));
    gang.groups[2]!.abort(new FleetError("LOSS_NOT_FINITE", "the loss is NaN"));
    await Promise.all(blames);
    const [near, own] = await Promise.all([gang.groups[0]!.failed, gang.groups[2]!.failed]);
    assert.equal(near.detail["cause"], "LOSS_NOT_FINITE");
    assert.match(own.message, /this worker stopped: the loss is NaN/);
    await gang.close();
  });

  it("ends when its caller's signal says so", async () => {
    const controller = new AbortController();
    const gang = await formGang(2, { signal: controller.signal });
    const barrier = gang.groups[0]!.barrier();
    controller.abort(new FleetError("GENERATION_ABORTED", "the coordinator stopped it"));
    await assert.rejects(barrier, /the coordinator stopped it/);
    await gang.close();
  });

  it("names whoever does not take part in a gather in time", async () => {
    const gang = await formGang(3, { opTimeoutMs: 1000 });
    const [first, second] = gang.groups.map((group) => () => group.allGather(Float32Array.of(1)));
    await Promise.all([
      assertBlames(first!(), 2, /all-gather 0 took longer than 1000 ms: no contribution/),
      assertBlames(second!(), 2, /no contribution/),
    ]);
    await gang.close();
  });

  it("names whoever does not take part in a sum in time, though it is no neighbour", async () => {
    const gang = await formGang(5, { opTimeoutMs: 1000 });
    const others = gang.groups.filter(({ rank }) => rank !== 3);
    const pattern = /all-reduce 0 of 400000 bytes .* took longer than 1000 ms: no contribution/;
    await Promise.all(
      others.map((group) => assertBlames(group.allReduce(sharedFloats(100_000)), 3, pattern)),
    );
    await gang.close();
  });

  it("ends when the members do different things", async () => {
    const cases: [(group: PeerGroup) => Promise<unknown>, RegExp][] = [
      [
        (group) => (group.rank === 0 ? group.barrier() : group.allGather(Float32Array.of(1))),
        /gather/,
      ],
      [(group) => group.allGather(new Float32Array(1 + group.rank)), /gather of (4|8) bytes/],
      [(group) => group.allReduce(sharedFloats(100_000 + group.rank)), /reduce of 40000[04] bytes/],
    ];
    for (const [operation, pattern] of cases) {
      const gang = await formGang(2);
      const failures = gang.groups.map((group) =>
        assert.rejects(operation(group), (error) => {
          assert.ok(error instanceof FleetError);
          assert.equal(error.code, "GENERATION_ABORTED");
          assert.match(error.message, pattern);
          assert.match(error.message, /MISMATCHED/);
          return true;
        }),
      );
      await Promise.all(failures);
      await gang.close();
    }
  });

  it("ends when a member's server closes", async () => {
    const gang = await formGang(2);
    const barrier = assertBlames(gang.groups[0]!.barrier(), 1, /peer server closed/);
    await gang.servers[1]!.close();
    await barrier;
    await gang.close();
  });
});

describe("leaving a generation", function () {
  this.timeout(30_000);

  it("lets the others read what was sent before", async () => {
    const gang = await formGang(3);
    const [first, ...others] = gang.groups as [PeerGroup, ...PeerGroup[]];
    // 16 MB: more than the streams hold, so that the root is still sending when it closes.
    const sent = sharedFloats(4_000_000).fill(5);
    const left = first.broadcast(sent, 0).then(() => first.close());
    await Promise.all(
      others.map(async (group) => {
        const buffer = sharedFloats(4_000_000);
        await group.broadcast(buffer, 0);
        assert.ok(buffer.every((x) => x === 5));
      }),
    );
    await left;
    await gang.close();
  });

  it("waits for operations that are under way", async () => {
    const gang = await formGang(2);
    await gang.each(async (group) => {
      const buffer = sharedFloats(1_000_000).fill(1);
      const sum = group.allReduce(buffer);
      const closed = group.close();
      await sum;
      assert.equal(buffer[0], 2);
      await closed;
    });
    await gang.close();
  });

  it("fails a later operation of those who stay, and names the one that left", async () => {
    const gang = await formGang(3);
    await gang.groups[1]!.close();
    await assertBlames(gang.groups[0]!.barrier(), 1, /left before this operation/);
    await gang.close();
  });

  it("makes every later call of the one that left fail", async () => {
    const gang = await formGang(2);
    await gang.close();
    await assert.rejects(gang.groups[0]!.barrier(), /this worker has left it/);
  });
});
