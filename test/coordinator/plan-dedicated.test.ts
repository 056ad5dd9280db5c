import assert from "node:assert/strict";
import fc from "fast-check";
import { planGangs } from "../../coordinator/gang/plan-gangs.ts";
import type { Candidate } from "../../coordinator/gang/worker-pool.ts";
import { type Dedication, mayTake } from "../../coordinator/member/dedication.ts";
import { fleet, GROWTH_DELAY_MS, gangs, plan, reason, request } from "./gang-planning.ts";

/** The first `count` workers of a fleet are for this work only. */
function dedicate(
  workers: readonly Candidate[],
  count: number,
  work: Omit<Dedication, "leaveWhenOver">,
): Candidate[] {
  const dedication = { ...work, leaveWhenOver: false };
  return workers.map((worker, index) => (index < count ? { ...worker, dedication } : worker));
}

describe("gang planner with dedicated workers", () => {
  it("gives them their stage of their experiment, and no other", () => {
    const workers = dedicate(fleet(2), 2, { experimentId: "a", stage: "linear" });
    assert.deepEqual(gangs(plan([request("a", 2)], workers)), {});
    assert.deepEqual(gangs(plan([request("b", 2, { stage: "linear" })], workers)), {});
    const plans = plan([request("a", 2, { stage: "linear" })], workers);
    assert.deepEqual(gangs(plans), { a: ["wasm00", "wasm01"] });
  });

  it("gives them any experiment of their stage, and any stage of their experiment", () => {
    const ofStage = dedicate(fleet(1), 1, { stage: "pretrain" });
    assert.deepEqual(Object.keys(gangs(plan([request("b", 1)], ofStage))), ["b"]);
    const ofExperiment = dedicate(fleet(1), 1, { experimentId: "b" });
    const linear = request("b", 1, { stage: "linear" });
    assert.deepEqual(Object.keys(gangs(plan([linear], ofExperiment))), ["b"]);
  });

  it("takes them first, and leaves the others to others", () => {
    const workers = dedicate(fleet(3).toReversed(), 2, { experimentId: "a" });
    const plans = plan([request("a", 2, { priority: 1 }), request("b", 1)], workers);
    assert.deepEqual(gangs(plans), { a: ["wasm01", "wasm02"], b: ["wasm00"] });
  });

  it("does not keep them from their work for an experiment that they are not for", () => {
    const workers = dedicate(fleet(3, 1), 1, { experimentId: "small" });
    const plans = plan([request("large", 3, { priority: 1 }), request("small", 1)], workers);
    assert.deepEqual(gangs(plans), { small: ["wasm00"] });
    assert.equal(
      reason(plans, "large"),
      "waits for 3 workers: 2 idle of 3 connected; 1 more is dedicated to small",
    );
  });

  it("says so when all workers are for something else", () => {
    const workers = [
      ...dedicate(fleet(2), 2, { stage: "linear" }),
      ...dedicate(fleet(1, 0, "onednn"), 1, { experimentId: "b", stage: "pretrain" }),
    ];
    assert.equal(
      reason(plan([request("a", 2)], workers.slice(0, 2)), "a"),
      "waits for 2 workers: none is connected; 2 are dedicated to linear",
    );
    assert.equal(
      reason(plan([request("a", 2)], workers), "a"),
      "waits for 2 workers: none is connected; 3 are dedicated to other work",
    );
  });

  it("says how many of the workers in sight are kept for a larger gang", () => {
    const workers = dedicate(fleet(3, 1), 1, { experimentId: "b" });
    const requests = [request("large", 3, { priority: 1 }), request("b", 2)];
    const plans = plan(requests, workers);
    assert.equal(
      reason(plans, "b"),
      "waits for 2 workers: 3 idle of 4 connected (2 kept for large)",
    );
  });

  it("lets a gang grow by those that are for it only", () => {
    const gang = { lastGang: ["wasm02"], isRunning: true };
    const types = (workers: readonly Candidate[]): readonly string[] =>
      plan([request("a", [3, 2, 1], gang)], workers, {
        before: [{ type: "could-grow", experimentId: "a", sinceMs: 0 }],
        nowMs: GROWTH_DELAY_MS,
      }).map((one) => (one.type === "grow" ? one.reason : one.type));
    assert.deepEqual(types(dedicate(fleet(2, 1), 1, { experimentId: "b" })), [
      "grows from 1 to 2 workers",
    ]);
    assert.deepEqual(types(dedicate(fleet(2, 1), 1, { experimentId: "a" })), [
      "grows from 1 to 3 workers",
    ]);
  });

  it("never gives a worker other work, whatever the fleet and the queue", () => {
    const stage = fc.constantFrom("pretrain", "linear");
    const experimentId = fc.constantFrom("e0", "e1", "e2");
    const dedication = fc.record(
      { experimentId, stage, leaveWhenOver: fc.boolean() },
      { requiredKeys: ["leaveWhenOver"] },
    );
    const workers = fc.array(fc.record({ dedication }, { requiredKeys: [] }), { maxLength: 8 });
    const queues = fc.array(fc.record({ stage, priority: fc.integer({ min: 0, max: 1 }) }), {
      maxLength: 3,
    });
    fc.assert(
      fc.property(workers, queues, (some, queue) => {
        const candidates = some.map((one, index) => ({
          ...{ id: `w${index}`, engine: "a", isIdle: true },
          ...one,
        }));
        const requests = queue.map((one, index) => request(`e${index}`, [2, 1], one));
        const input = { requests, fleet: candidates, suspects: new Set<string>(), before: [] };
        for (const one of planGangs({ ...input, nowMs: 0, growthDelayMs: 1 })) {
          const asked = requests.find((other) => other.experimentId === one.experimentId);
          assert.ok(asked);
          for (const id of one.type === "start" ? one.gang : []) {
            assert.ok(mayTake(candidates.find((worker) => worker.id === id)?.dedication, asked));
          }
        }
      }),
    );
  });
});
