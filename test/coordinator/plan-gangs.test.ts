import assert from "node:assert/strict";
import fc from "fast-check";
import {
  type Candidate,
  type GangPlan,
  type GangRequest,
  planGangs,
} from "../../coordinator/gang/plan-gangs.ts";

function request(experimentId: string, workers: number, more: Partial<GangRequest> = {}) {
  const defaults = { priority: 0, submittedUnixMs: 0, isHandedOver: true, preferred: [] };
  return { experimentId, workers, ...defaults, ...more };
}

/** `idle` free workers and `busy` others, of one engine. */
function fleet(idle: number, busy = 0, engine = "wasm"): Candidate[] {
  return Array.from({ length: idle + busy }, (_, index) => ({
    id: `${engine}${String(index).padStart(2, "0")}`,
    engine,
    isIdle: index < idle,
  }));
}

function gangs(plans: readonly GangPlan[]): Record<string, readonly string[]> {
  return Object.fromEntries(
    plans.flatMap((plan) => (plan.type === "start" ? [[plan.experimentId, plan.gang]] : [])),
  );
}

function reason(plans: readonly GangPlan[], experimentId: string): string {
  const plan = plans.find((one) => one.experimentId === experimentId);
  return plan?.type === "wait" ? plan.reason : "it starts";
}

describe("gang planner", () => {
  it("starts a gang when all its workers are free", () => {
    assert.deepEqual(gangs(planGangs([request("a", 2)], fleet(2))), { a: ["wasm00", "wasm01"] });
  });

  it("starts nothing with one worker too few, and says how many are there", () => {
    const plans = planGangs([request("a", 16)], fleet(9, 3));
    assert.deepEqual(gangs(plans), {});
    assert.equal(reason(plans, "a"), "waits for 16 workers: 9 idle of 12 connected");
  });

  it("says that nobody is there", () => {
    assert.equal(
      reason(planGangs([request("a", 1)], []), "a"),
      "waits for 1 worker: none is connected",
    );
  });

  it("runs two experiments side by side when the workers suffice", () => {
    assert.deepEqual(gangs(planGangs([request("a", 2), request("b", 1)], fleet(3))), {
      a: ["wasm00", "wasm01"],
      b: ["wasm02"],
    });
  });

  it("keeps the workers of one that the queue has not let go yet from a lower priority", () => {
    const requests = [request("low", 2), request("high", 2, { priority: 1, isHandedOver: false })];
    const plans = planGangs(requests, fleet(3));
    assert.deepEqual(gangs(plans), {});
    assert.equal(reason(plans, "high"), "waits for the queue to hand its stage over");
    assert.deepEqual(Object.keys(gangs(planGangs(requests, fleet(4)))), ["low"]);
  });

  it("serves the higher priority first, then the earlier submission", () => {
    const requests = [
      request("late", 2, { submittedUnixMs: 2 }),
      request("early", 2, { submittedUnixMs: 1 }),
      request("urgent", 2, { priority: 1, submittedUnixMs: 3 }),
    ];
    assert.deepEqual(Object.keys(gangs(planGangs(requests, fleet(2)))), ["urgent"]);
    assert.deepEqual(Object.keys(gangs(planGangs(requests, fleet(4)))), ["urgent", "early"]);
  });

  it("keeps idle workers for a large gang that the fleet could satisfy", () => {
    const requests = [request("large", 4, { priority: 1 }), request("small", 1)];
    const plans = planGangs(requests, fleet(2, 2));
    assert.deepEqual(gangs(plans), {});
    assert.equal(
      reason(plans, "small"),
      "waits for 1 worker: 2 idle of 4 connected (kept for large)",
    );
  });

  it("lets others pass a gang that is too large for the fleet", () => {
    const requests = [request("huge", 5, { priority: 1 }), request("small", 1)];
    assert.deepEqual(Object.keys(gangs(planGangs(requests, fleet(2, 2)))), ["small"]);
  });

  it("never mixes engines in a gang", () => {
    const mixed = [...fleet(2), ...fleet(1, 0, "onednn")];
    const plans = planGangs([request("a", 3)], mixed);
    assert.equal(
      reason(plans, "a"),
      "waits for 3 workers of one engine: onednn 1 idle of 1 connected, wasm 2 idle of 2 connected",
    );
    assert.deepEqual(gangs(planGangs([request("b", 2)], mixed)), { b: ["wasm00", "wasm01"] });
  });

  it("takes the smallest pool that will do", () => {
    const mixed = [...fleet(4), ...fleet(2, 0, "onednn")];
    assert.deepEqual(gangs(planGangs([request("a", 2)], mixed)), { a: ["onednn00", "onednn01"] });
  });

  it("takes the workers of the last gang first, in their old order", () => {
    const preferred = ["wasm03", "wasm99", "wasm01"];
    assert.deepEqual(gangs(planGangs([request("a", 3, { preferred })], fleet(4))), {
      a: ["wasm03", "wasm01", "wasm00"],
    });
  });

  describe("for any fleet and any queue", () => {
    const requests = fc
      .array(
        fc.record({
          workers: fc.integer({ min: 1, max: 6 }),
          priority: fc.integer({ min: -1, max: 1 }),
          submittedUnixMs: fc.integer({ min: 0, max: 3 }),
        }),
        { maxLength: 6 },
      )
      .map((all) => all.map((one, index) => request(`e${index}`, one.workers, one)));
    const fleets = fc
      .array(fc.record({ engine: fc.constantFrom("a", "b"), isIdle: fc.boolean() }), {
        maxLength: 12,
      })
      .map((all) => all.map((one, index) => ({ id: `w${index}`, ...one })));

    it("gives out whole gangs of idle workers of one engine, each worker once", () => {
      fc.assert(
        fc.property(requests, fleets, (queue, workers) => {
          const started = Object.entries(gangs(planGangs(queue, workers)));
          const given = started.flatMap(([, gang]) => gang);
          assert.equal(new Set(given).size, given.length);
          for (const [id, gang] of started) {
            const members = gang.map((member) => workers.find((worker) => worker.id === member));
            assert.equal(gang.length, queue.find((one) => one.experimentId === id)?.workers);
            assert.ok(members.every((member) => member?.isIdle));
            assert.equal(new Set(members.map((member) => member?.engine)).size, 1);
          }
        }),
      );
    });

    it("starts the first in turn whenever it can", () => {
      fc.assert(
        fc.property(requests, fleets, (queue, workers) => {
          const [first] = planGangs(queue, workers);
          const isEnough = ["a", "b"].some(
            (engine) =>
              workers.filter((worker) => worker.isIdle && worker.engine === engine).length >=
              (queue.find((one) => one.experimentId === first?.experimentId)?.workers ?? Infinity),
          );
          assert.equal(first?.type === "start", isEnough);
        }),
      );
    });
  });
});
