/** What operators make of an experiment, in each of its states. */

import assert from "node:assert/strict";
import { ExperimentRun, GANG, running } from "./experiment-run.ts";

const CONFLICT = { code: "STATE_CONFLICT" };

describe("cancel", () => {
  it("ends an experiment at once while it waits", () => {
    const run = new ExperimentRun().apply({ type: "cancel" });
    assert.equal(run.status, "cancelled");
    assert.deepEqual(run.effects, [{ type: "stage-ended", stage: "pretrain" }]);
  });

  it("stops a gang at a step boundary first, with a checkpoint", () => {
    const run = running().apply({ type: "cancel" });
    assert.deepEqual(run.aborts, [[true, true, "w0 w1 w2"]]);
    assert.equal(run.status, "stopping");
    assert.equal(run.leave(...GANG).status, "cancelled");
  });

  it("gives up step and checkpoint the second time, and changes nothing the third", () => {
    const run = running().apply({ type: "cancel" }).leave("w1").apply({ type: "cancel" });
    assert.deepEqual(run.aborts, [[false, false, "w0 w2"]]);
    assert.deepEqual(run.apply({ type: "cancel" }).aborts, []);
    assert.equal(run.leave("w0", "w2").status, "cancelled");
  });

  it("is what becomes of it, whatever its gang was stopping for", () => {
    const fatal = { code: "DATA_INVALID", message: "no images" } as const;
    const run = running().fail("w0", fatal).apply({ type: "cancel" });
    assert.equal(run.leave(...GANG).status, "cancelled");
  });

  it("has a gang that was to restart keep its state", () => {
    const run = running().fail("w0").leave("w0").apply({ type: "cancel" });
    assert.deepEqual(run.aborts, [[false, true, "w1 w2"]]);
  });

  it("is refused when it has ended already", () => {
    const run = new ExperimentRun().apply({ type: "cancel" });
    assert.throws(() => run.apply({ type: "cancel" }), CONFLICT);
  });
});

describe("pause", () => {
  it("takes effect at once while it waits, and leaves its job in the queue", () => {
    const run = new ExperimentRun().apply({ type: "pause" });
    assert.equal(run.status, "paused");
    assert.deepEqual(run.effects, []);
  });

  it("stops a gang at a step boundary first, with a checkpoint", () => {
    const run = running().apply({ type: "pause" });
    assert.deepEqual(run.aborts, [[true, true, "w0 w1 w2"]]);
    assert.equal(run.leave(...GANG).status, "paused");
    assert.deepEqual(run.experiment.restarts, { failure: 0, preemption: 0, membership: 0 });
  });

  it("is what becomes of it when its gang was to restart", () => {
    const run = running().fail("w0").leave("w0").apply({ type: "pause" });
    assert.deepEqual(run.aborts, [[false, true, "w1 w2"]]);
    assert.equal(run.leave("w1", "w2").status, "paused");
  });

  it("is refused when it ends anyway, or is paused", () => {
    const fatal = { code: "DATA_INVALID", message: "no images" } as const;
    for (const run of [
      running().fail("w0", fatal),
      running().apply({ type: "cancel" }),
      new ExperimentRun().apply({ type: "cancel" }),
      new ExperimentRun().apply({ type: "pause" }),
    ]) {
      assert.throws(() => run.apply({ type: "pause" }), CONFLICT);
    }
  });

  it("can be cancelled", () => {
    const run = new ExperimentRun().apply({ type: "pause" }).apply({ type: "cancel" });
    assert.equal(run.status, "cancelled");
    assert.deepEqual(run.effects, [{ type: "stage-ended", stage: "pretrain" }]);
  });
});

describe("resume", () => {
  it("lets a paused experiment be planned again", () => {
    const run = running()
      .apply({ type: "pause" })
      .leave(...GANG)
      .apply({ type: "resume" });
    assert.equal(run.status, "waiting");
    assert.equal(run.assign().progress(2).status, "running");
  });

  it("is refused unless it is paused", () => {
    assert.throws(() => running().apply({ type: "resume" }), CONFLICT);
    assert.throws(() => running().apply({ type: "pause" }).apply({ type: "resume" }), CONFLICT);
  });
});

describe("retry", () => {
  it("goes on with the stage that an experiment had come to", () => {
    const run = running().result("w0", "{}").result("w1").result("w2");
    run.apply({ type: "cancel" }).apply({ type: "retry" });
    assert.equal(run.status, "waiting");
    assert.equal(run.experiment.stageIndex, 1);
    assert.equal(run.experiment.finishedUnixMs, undefined);
    assert.deepEqual(run.effects, [{ type: "requeue" }]);
  });

  it("is refused unless it has failed or was cancelled", () => {
    assert.throws(() => running().apply({ type: "retry" }), CONFLICT);
    const paused = new ExperimentRun().apply({ type: "pause" });
    assert.throws(() => paused.apply({ type: "retry" }), /state is paused.*; resume it/);
  });
});
