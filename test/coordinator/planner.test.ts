import assert from "node:assert/strict";
import type { Experiment } from "../../coordinator/experiment/experiment.ts";
import type { GangPlan } from "../../coordinator/gang/plan-gangs.ts";
import { Planner } from "../../coordinator/scheduling/planner.ts";
import { openLog } from "../../proto/log.ts";
import { newExperiment } from "./experiments.ts";

const FLEET = ["w0", "w1", "w2", "w3"].map((id) => ({ id, engine: "fake", isIdle: true }));
const GANG = ["w0", "w1", "w2"];

/** An experiment of three workers whose generation 1 broke up. */
const broken: Experiment = {
  ...newExperiment({ id: "a", workers: [3] }),
  generation: 1,
  lastGang: GANG,
};

describe("planner", () => {
  const hints = new Map<string, string>();
  let planner: Planner;
  beforeEach(() => {
    const log = openLog({ level: "silent", process: "test" });
    planner = new Planner({ log, leaseMs: 5_000, hints });
  });

  const plan = (experiment: Experiment, nowMs: number, fleet = FLEET): GangPlan | undefined =>
    planner.plan([experiment], { handedOver: new Set(["a"]), fleet, nowMs })[0];
  const gangOf = (experiment: Experiment, nowMs: number): readonly string[] => {
    const planned = plan(experiment, nowMs);
    return planned?.type === "start" ? planned.gang : [];
  };
  /** All but w1 say that they have lost w1. */
  const accuseW1 = (experiment: Experiment, generation = 1, nowMs = 0): void => {
    for (const worker of ["w0", "w2"]) {
      planner.accuse(experiment, { worker, generation, lostRanks: [1], nowMs });
    }
  };

  it("plans without a worker that its peers could not reach, for a minute", () => {
    assert.deepEqual(gangOf(broken, 0), ["w0", "w1", "w2"]);
    accuseW1(broken);
    assert.deepEqual(gangOf(broken, 0), ["w0", "w3", "w2"]);
    assert.deepEqual(gangOf(broken, 59_999), ["w0", "w3", "w2"]);
    assert.deepEqual(gangOf(broken, 60_000), ["w0", "w1", "w2"]);
  });

  it("holds it against a worker for longer when it happens again", () => {
    accuseW1(broken);
    accuseW1({ ...broken, generation: 2 }, 2, 70_000);
    assert.deepEqual(gangOf(broken, 189_999), ["w0", "w3", "w2"]);
    assert.deepEqual(gangOf(broken, 190_000), ["w0", "w1", "w2"]);
  });

  it("forgives a worker that takes a step with its gang", () => {
    accuseW1(broken);
    const phase = { status: "running", gang: GANG, finished: [] } as const;
    plan({ ...broken, generation: 2, settled: { generation: 2, size: 3 }, phase }, 1_000);
    assert.deepEqual(gangOf(broken, 2_000), ["w0", "w1", "w2"]);
  });

  it("plans without a worker that was lost in the middle of the training, for moments", () => {
    const settled = { ...broken, settled: { generation: 1, size: 3 } };
    accuseW1(settled);
    assert.deepEqual(gangOf(settled, 9_999), ["w0", "w3", "w2"]);
    assert.deepEqual(gangOf(settled, 10_000), ["w0", "w1", "w2"]);
  });

  it("believes no accusation but those of the newest gang", () => {
    accuseW1(broken, 7);
    accuseW1({ ...broken, lastGang: ["w4", "w1", "w5"] });
    assert.deepEqual(gangOf(broken, 0), ["w0", "w1", "w2"]);
  });

  it("lets a gang grow only while none of its ranks has finished", () => {
    const stage = newExperiment({ id: "a", workers: [[4, 2]] });
    const phase = { status: "running", gang: ["w0", "w1"], finished: [] } as const;
    const running: Experiment = { ...stage, generation: 1, lastGang: phase.gang, phase };
    const fleet = FLEET.map(({ id, engine }) => ({ id, engine, isIdle: id > "w1" }));
    plan(running, 0, fleet);
    assert.equal(plan(running, 10_000, fleet)?.type, "grow");
    assert.equal(
      plan({ ...running, phase: { ...phase, finished: [1] } }, 10_000, fleet),
      undefined,
    );
  });
});
