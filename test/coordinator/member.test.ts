import assert from "node:assert/strict";
import {
  type Assignment,
  busyMember,
  idleMember,
  type Member,
  type MemberEvent,
  step,
  type WorkerFacts,
} from "../../coordinator/member/member.ts";

const LEASE_MS = 5_000;

const facts: WorkerFacts = {
  id: "w0",
  name: "host:1",
  peerAddress: "127.0.0.1:9",
  engine: "tfjs:wasm",
  device: "CPU",
  threads: 1,
  softwareVersion: "0.1.0",
  sinceUnixMs: 0,
};
const assignment: Assignment = { experimentId: "e", stage: "pretrain", generation: 3, rank: 1 };

function apply(member: Member, ...events: readonly [MemberEvent, number][]) {
  let last = { member, effects: [] as ReturnType<typeof step>["effects"] };
  for (const [event, now] of events) last = step(last.member, event, LEASE_MS, now);
  return last;
}

describe("member", () => {
  const idle = idleMember(facts, LEASE_MS, 0);
  const { member: busy } = apply(idle, [{ type: "assign", assignment }, 100]);

  it("is busy with what it was assigned", () => {
    assert.equal(busy.status, "busy");
    assert.deepEqual(busy.status === "busy" && busy.assignment, assignment);
  });

  it("cannot be assigned twice", () => {
    assert.throws(() => apply(busy, [{ type: "assign", assignment }, 200]), /assigned while busy/);
  });

  it("is free again when it has left its generation", () => {
    assert.equal(apply(busy, [{ type: "drained", generation: 3 }, 200]).member.status, "idle");
  });

  it("ignores the end of a generation that was already replaced", () => {
    assert.equal(apply(busy, [{ type: "drained", generation: 2 }, 200]).member, busy);
  });

  describe("when its lease runs out", () => {
    it("is lost, and what it held with it", () => {
      const { member, effects } = apply(busy, [{ type: "tick" }, 5_250]);
      assert.equal(member.status, "lost");
      assert.deepEqual(effects, [
        { type: "lost", assignment, because: "no heartbeat for 5250 ms" },
      ]);
    });

    it("is lost for ever", () => {
      const { member: lost } = apply(idle, [{ type: "tick" }, 5_000]);
      const heartbeat: MemberEvent = { type: "heartbeat", step: 1, rssBytes: 0 };
      assert.equal(
        apply(lost, [heartbeat, 5_001], [{ type: "joined", facts }, 5_002]).member,
        lost,
      );
    });
  });

  it("keeps its lease with every heartbeat", () => {
    const { member } = apply(
      busy,
      [{ type: "heartbeat", step: 42, rssBytes: 7 }, 4_999],
      [{ type: "tick" }, 9_998],
    );
    assert.equal(member.status, "busy");
    assert.equal(member.step, 42);
  });

  it("is not blamed for a pause of the coordinator", () => {
    const { member } = apply(busy, [{ type: "reprieved" }, 60_000], [{ type: "tick" }, 60_001]);
    assert.equal(member.status, "busy");
  });

  it("is lost when it does not do what it was told", () => {
    const { member, effects } = apply(busy, [{ type: "evicted", because: "too slow" }, 200]);
    assert.equal(member.status, "lost");
    assert.deepEqual(effects, [{ type: "lost", assignment, because: "too slow" }]);
  });

  describe("whose connection breaks", () => {
    it("is lost at once while it holds nothing", () => {
      assert.equal(apply(idle, [{ type: "disconnected" }, 10]).member.status, "lost");
    });

    it("has until the end of its lease to come back while it trains", () => {
      const gone = apply(busy, [{ type: "disconnected" }, 200]).member;
      assert.equal(gone.status === "busy" && gone.isConnected, false);

      const back = apply(gone, [{ type: "joined", facts }, 3_000], [{ type: "tick" }, 7_999]);
      assert.equal(back.member.status === "busy" && back.member.isConnected, true);

      assert.equal(apply(gone, [{ type: "tick" }, 5_000]).member.status, "lost");
    });

    it("is lost once it has left its generation", () => {
      const gone = apply(busy, [{ type: "disconnected" }, 200]).member;
      assert.equal(apply(gone, [{ type: "drained", generation: 3 }, 300]).member.status, "lost");
    });
  });

  it("that is expected back counts as not connected", () => {
    const expected = busyMember(facts, assignment, LEASE_MS, 0);
    assert.equal(expected.status === "busy" && expected.isConnected, false);
  });

  describe("that drains", () => {
    const leave: MemberEvent = {
      type: "draining",
      draining: { by: "operator", because: "not needed" },
    };
    const dismiss = { type: "dismiss", because: "not needed" };

    it("is sent away at once while it holds nothing", () => {
      const { member, effects } = apply(idle, [leave, 10]);
      assert.equal(member.status, "idle");
      assert.deepEqual(effects, [dismiss]);
    });

    it("is sent away when it has left its generation", () => {
      const told = apply(busy, [leave, 200]);
      assert.deepEqual(told.effects, []);
      const { member, effects } = apply(told.member, [{ type: "drained", generation: 3 }, 300]);
      assert.deepEqual([member.status, effects], ["idle", [dismiss]]);
    });

    it("is sent away again when it comes back, in case it has not heard", () => {
      const { effects } = apply(idle, [leave, 10], [{ type: "joined", facts }, 20]);
      assert.deepEqual(effects, [dismiss]);
    });

    it("cannot be assigned anything", () => {
      const { member } = apply(idle, [leave, 10]);
      assert.throws(() => apply(member, [{ type: "assign", assignment }, 20]), /while it drains/);
    });

    it("is not sent away when it leaves by itself", () => {
      const itself: MemberEvent = {
        type: "draining",
        draining: { by: "worker", because: "SIGTERM" },
      };
      assert.deepEqual(apply(idle, [itself, 10], [leave, 20]).effects, []);
    });
  });

  it("knows the times of its steps while it has some", () => {
    const times = { ownStepSeconds: 0.5, dataSeconds: 0.125 };
    const beat = { type: "heartbeat", step: 1, rssBytes: 0 } as const;
    const { member } = apply(busy, [{ ...beat, times }, 200]);
    assert.deepEqual(member.times, times);
    assert.equal(apply(member, [beat, 300]).member.times, undefined);
    assert.equal(apply(member, [{ type: "drained", generation: 3 }, 300]).member.times, undefined);
  });
});
