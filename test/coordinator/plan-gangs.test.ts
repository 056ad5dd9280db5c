import assert from "node:assert/strict";
import fc from "fast-check";
import type { GangPlan } from "../../coordinator/gang/plan-gangs.ts";
import { fleet, GROWTH_DELAY_MS, gangs, plan, reason, request, WAIT_MS } from "./gang-planning.ts";

describe("gang planner", () => {
  it("starts a gang when all its workers are free", () => {
    assert.deepEqual(gangs(plan([request("a", 2)], fleet(2))), { a: ["wasm00", "wasm01"] });
  });

  it("starts nothing with one worker too few, and says how many are there", () => {
    const plans = plan([request("a", 16)], fleet(9, 3));
    assert.deepEqual(gangs(plans), {});
    assert.equal(reason(plans, "a"), "waits for 16 workers: 9 idle of 12 connected");
  });

  it("says that nobody is there", () => {
    assert.equal(reason(plan([request("a", 1)], []), "a"), "waits for 1 worker: none is connected");
  });

  it("runs two experiments side by side when the workers suffice", () => {
    assert.deepEqual(gangs(plan([request("a", 2), request("b", 1)], fleet(3))), {
      a: ["wasm00", "wasm01"],
      b: ["wasm02"],
    });
  });

  it("keeps the workers of one that the queue has not let go yet from a lower priority", () => {
    const requests = [request("low", 2), request("high", 2, { priority: 1, isHandedOver: false })];
    const plans = plan(requests, fleet(3));
    assert.deepEqual(gangs(plans), {});
    assert.equal(reason(plans, "high"), "waits for the queue to hand its stage over");
    assert.deepEqual(Object.keys(gangs(plan(requests, fleet(4)))), ["low"]);
  });

  it("serves the higher priority first, then the earlier submission", () => {
    const requests = [
      request("late", 2, { submittedUnixMs: 2 }),
      request("early", 2, { submittedUnixMs: 1 }),
      request("urgent", 2, { priority: 1, submittedUnixMs: 3 }),
    ];
    assert.deepEqual(Object.keys(gangs(plan(requests, fleet(2)))), ["urgent"]);
    assert.deepEqual(Object.keys(gangs(plan(requests, fleet(4)))), ["urgent", "early"]);
  });

  it("keeps idle workers for a large gang that the fleet could satisfy", () => {
    const requests = [request("large", 4, { priority: 1 }), request("small", 1)];
    const plans = plan(requests, fleet(2, 2));
    assert.deepEqual(gangs(plans), {});
    assert.equal(
      reason(plans, "small"),
      "waits for 1 worker: 2 idle of 4 connected (kept for large)",
    );
  });

  it("lets others pass a gang that is too large for the fleet", () => {
    const requests = [request("huge", 5, { priority: 1 }), request("small", 1)];
    assert.deepEqual(Object.keys(gangs(plan(requests, fleet(2, 2)))), ["small"]);
  });

  it("never mixes engines in a gang", () => {
    const mixed = [...fleet(2), ...fleet(1, 0, "onednn")];
    const plans = plan([request("a", 3)], mixed);
    assert.equal(
      reason(plans, "a"),
      "waits for 3 workers of one engine: onednn 1 idle of 1 connected, wasm 2 idle of 2 connected",
    );
    assert.deepEqual(gangs(plan([request("b", 2)], mixed)), { b: ["wasm00", "wasm01"] });
  });

  it("takes the smallest pool that will do", () => {
    const mixed = [...fleet(4), ...fleet(2, 0, "onednn")];
    assert.deepEqual(gangs(plan([request("a", 2)], mixed)), { a: ["onednn00", "onednn01"] });
  });

  it("leaves the workers of the last gang their ranks, and gives newcomers the vacant ones", () => {
    const lastGang = ["wasm03", "wasm99", "wasm01"];
    assert.deepEqual(gangs(plan([request("a", 3, { lastGang })], fleet(4))), {
      a: ["wasm03", "wasm00", "wasm01"],
    });
  });

  it("takes the workers of the last gang first, in their order, into one of another size", () => {
    const lastGang = ["wasm03", "wasm99", "wasm01"];
    assert.deepEqual(gangs(plan([request("a", 4, { lastGang })], fleet(4))), {
      a: ["wasm03", "wasm01", "wasm00", "wasm02"],
    });
    assert.deepEqual(gangs(plan([request("a", 1, { lastGang })], fleet(4))), { a: ["wasm03"] });
  });

  describe("when an experiment may have fewer workers", () => {
    const elastic = request("a", [4, 2, 1]);

    it("takes all that it can have at once", () => {
      assert.deepEqual(gangs(plan([elastic], fleet(5))), {
        a: ["wasm00", "wasm01", "wasm02", "wasm03"],
      });
    });

    it("waits for the rest, says how long, and then goes on with fewer", () => {
      const first = plan([elastic], fleet(3, 1), { nowMs: 1_000 });
      assert.equal(
        reason(first, "a"),
        "waits up to 30 s more for 4 workers before it goes on with 2: 3 idle of 4 connected",
      );
      const brief = plan([request("a", [4, 2], { waitMs: 6_000 })], fleet(2));
      assert.match(reason(brief, "a"), /^waits up to 6 s more/);
      const second = plan([elastic], fleet(3), { before: first, nowMs: 19_500 });
      assert.match(reason(second, "a"), /^waits up to 15 s more for 4 workers/);
      const last = plan([elastic], fleet(3), { before: second, nowMs: 31_000 });
      assert.deepEqual(gangs(last), { a: ["wasm00", "wasm01"] });
    });

    it("starts to wait anew when there were workers for no gang in between", () => {
      const first = plan([elastic], fleet(2), { nowMs: 0 });
      const none = plan([elastic], fleet(0), { before: first, nowMs: 10_000 });
      assert.equal(reason(none, "a"), "waits for 1 to 4 workers: none is connected");
      const again = plan([elastic], fleet(2), { before: none, nowMs: 31_000 });
      assert.match(reason(again, "a"), /^waits up to 30 s more/);
    });

    it("goes on at once with as many workers as it had come to a step with", () => {
      const settled = request("a", [4, 2, 1], { enough: 2 });
      assert.deepEqual(gangs(plan([settled], fleet(3))), { a: ["wasm00", "wasm01"] });
      assert.match(reason(plan([settled], fleet(1)), "a"), /^waits up to 30 s more for 2 workers/);
    });

    it("keeps the workers that it could go on with from those behind it", () => {
      const plans = plan([elastic, request("b", 1, { submittedUnixMs: 1 })], fleet(3));
      assert.match(reason(plans, "b"), /^waits for 1 worker: 3 idle of 3 connected \(kept for a\)/);
    });

    it("stays with the workers that hold its state, even if others could make up more", () => {
      const lastGang = ["wasm00", "wasm01", "wasm02", "wasm03"];
      const mixed = [...fleet(3), ...fleet(4, 0, "onednn")];
      const asked = request("a", [4, 2], { lastGang, waitMs: 0 });
      assert.deepEqual(gangs(plan([asked], mixed)), { a: ["wasm00", "wasm01"] });
      assert.deepEqual(gangs(plan([asked], fleet(4, 0, "onednn"))), {
        a: ["onednn00", "onednn01", "onednn02", "onednn03"],
      });
    });

    it("does not forget its patience while Redis has no number for it", () => {
      const now = { before: plan([elastic], fleet(2)), nowMs: WAIT_MS };
      const started = plan([elastic], fleet(2), now);
      const again = plan([elastic], fleet(2), { before: started, nowMs: WAIT_MS + 250 });
      assert.deepEqual(Object.keys(gangs(again)), ["a"]);
    });
  });

  describe("when an experiment runs with fewer workers than it may have", () => {
    const gang = ["wasm02", "wasm03"];
    const running = request("a", [4, 2, 1], { isRunning: true, lastGang: gang, enough: 2 });
    const types = (plans: readonly GangPlan[]): string[] => plans.map(({ type }) => type);

    it("lets it grow once there have been workers for that in a row", () => {
      const first = plan([running], fleet(2, 2), { nowMs: 5 });
      assert.deepEqual(types(first), ["could-grow"]);
      const second = plan([running], fleet(3, 2), { before: first, nowMs: GROWTH_DELAY_MS });
      assert.deepEqual(types(second), ["could-grow"]);
      const third = plan([running], fleet(2, 2), { before: second, nowMs: GROWTH_DELAY_MS + 5 });
      assert.deepEqual(third, [
        { type: "grow", experimentId: "a", reason: "grows from 2 to 4 workers" },
      ]);
    });

    it("starts to count anew when one of them was away in between", () => {
      const first = plan([running], fleet(2, 2));
      const gap = plan([running], [...fleet(1), ...fleet(2, 2).slice(2)], { before: first });
      assert.deepEqual(types(gap), []);
      const late = { before: gap, nowMs: GROWTH_DELAY_MS };
      assert.deepEqual(types(plan([running], fleet(2, 2), late)), ["could-grow"]);
    });

    it("leaves it alone while the next larger size is out of reach", () => {
      assert.deepEqual(types(plan([running], [...fleet(1), ...fleet(2, 2).slice(2)])), []);
      assert.deepEqual(types(plan([running], [...fleet(2, 2), ...fleet(9, 0, "b")])), [
        "could-grow",
      ]);
      const ofOthers = [...fleet(2, 2).slice(2), ...fleet(9, 0, "b")];
      assert.deepEqual(types(plan([running], ofOthers)), []);
    });

    it("leaves it alone while a member is away", () => {
      assert.deepEqual(types(plan([running], fleet(2, 1))), []);
    });

    it("does not count on suspects", () => {
      assert.deepEqual(types(plan([running], fleet(2, 2), { suspects: new Set(["wasm00"]) })), []);
    });

    it("lets those go first that wait with its priority or a higher one, not with a lower", () => {
      const waiting = (priority: number) => request("b", 2, { priority, submittedUnixMs: 9 });
      for (const priority of [0, 1]) {
        const plans = plan([running, waiting(priority)], fleet(2, 2));
        assert.deepEqual(gangs(plans), { b: ["wasm00", "wasm01"] });
      }
      assert.deepEqual(types(plan([running, waiting(-1)], fleet(2, 2))), ["could-grow", "wait"]);
    });
  });

  describe("when a worker is out of its peers' reach", () => {
    const suspects = new Set(["wasm00"]);

    it("takes others", () => {
      assert.deepEqual(gangs(plan([request("a", 2)], fleet(3), { suspects })), {
        a: ["wasm01", "wasm02"],
      });
    });

    it("takes it when there is nobody else, in the end", () => {
      assert.deepEqual(gangs(plan([request("a", 2)], fleet(2), { suspects })), {
        a: ["wasm01", "wasm00"],
      });
    });

    it("would rather have fewer workers", () => {
      const plans = plan([request("a", [2, 1], { waitMs: 0 })], fleet(2), { suspects });
      assert.deepEqual(gangs(plans), { a: ["wasm01"] });
      assert.equal(
        reason(plan([request("a", [2, 1])], fleet(2), { suspects }), "a"),
        "waits up to 30 s more for 2 workers before it goes on with 1: " +
          "2 idle of 2 connected (1 out of its peers' reach)",
      );
    });
  });

  describe("for any fleet and any queue", () => {
    const requests = fc
      .array(
        fc.record({
          sizes: fc.constantFrom([1], [2], [3], [5], [4, 2], [4, 2, 1], [6, 3, 2, 1]),
          waitMs: fc.constantFrom(0, WAIT_MS),
          priority: fc.integer({ min: -1, max: 1 }),
          submittedUnixMs: fc.integer({ min: 0, max: 3 }),
        }),
        { maxLength: 6 },
      )
      .map((all) => all.map((one, index) => request(`e${index}`, one.sizes, one)));
    const fleets = fc
      .array(fc.record({ engine: fc.constantFrom("a", "b"), isIdle: fc.boolean() }), {
        maxLength: 12,
      })
      .map((all) => all.map((one, index) => ({ id: `w${index}`, ...one })));
    const suspects = fc.uniqueArray(fc.constantFrom("w0", "w1", "w2")).map((ids) => new Set(ids));

    it("gives out whole gangs of idle workers of one engine, each worker once", () => {
      fc.assert(
        fc.property(requests, fleets, suspects, (queue, workers, suspects) => {
          const started = Object.entries(gangs(plan(queue, workers, { suspects })));
          const given = started.flatMap(([, gang]) => gang);
          assert.equal(new Set(given).size, given.length);
          for (const [id, gang] of started) {
            const members = gang.map((member) => workers.find((worker) => worker.id === member));
            const sizes = queue.find((one) => one.experimentId === id)?.sizes;
            assert.ok(sizes?.includes(gang.length));
            assert.ok(members.every((member) => member?.isIdle));
            assert.equal(new Set(members.map((member) => member?.engine)).size, 1);
          }
        }),
      );
    });

    it("starts the first in turn whenever it can", () => {
      fc.assert(
        fc.property(requests, fleets, (queue, workers) => {
          const [first] = plan(queue, workers);
          const asked = queue.find((one) => one.experimentId === first?.experimentId);
          const needed = asked?.waitMs === 0 ? asked.sizes.at(-1) : asked?.sizes[0];
          const isEnough = ["a", "b"].some(
            (engine) =>
              workers.filter((worker) => worker.isIdle && worker.engine === engine).length >=
              (needed ?? Infinity),
          );
          assert.equal(first?.type === "start", isEnough);
        }),
      );
    });
  });
});
