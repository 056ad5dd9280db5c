import assert from "node:assert/strict";
import { ExperimentRun, GANG, running } from "./experiment-run.ts";
import { newExperiment } from "./experiments.ts";

const MAX = newExperiment({ workers: [3] }).maxRestarts;

describe("restart budget", () => {
  const restart = (run: ExperimentRun, reachedStep: number): ExperimentRun => {
    run.assign();
    if (reachedStep > 0) run.progress(reachedStep);
    return run.fail("w1").leave(...GANG);
  };
  const preempt = (run: ExperimentRun): ExperimentRun => {
    const { generation } = run.assign().experiment;
    const because = "rank 1 (worker b) drains: SIGTERM";
    const how = { cause: "preemption", because, keepCheckpoint: false } as const;
    return run.apply({ type: "reform", generation, drained: "w1", ...how }).leave(...GANG);
  };

  it("ends after failures that come no further, with the first root cause of them", () => {
    const run = restart(new ExperimentRun(), 0);
    for (let count = 0; count < MAX; count++) {
      assert.equal(run.status, "waiting");
      run
        .assign()
        .fail("w2", { message: `later ${count}`, unixMs: 1 })
        .leave(...GANG);
    }
    assert.deepEqual(run.experiment.phase, {
      status: "failed",
      code: "GENERATION_ABORTED",
      message: "3 restarts made no progress; rank 1: GENERATION_ABORTED: peer went away",
    });
  });

  it("is the recipe's", () => {
    const impatient = { ...newExperiment({ workers: [3] }), maxRestarts: 0 };
    const run = restart(new ExperimentRun(impatient), 0);
    assert.deepEqual(run.experiment.phase, {
      status: "failed",
      code: "GENERATION_ABORTED",
      message: "rank 1: GENERATION_ABORTED: peer went away",
    });
  });

  it("starts anew whenever a generation comes further than all before", () => {
    const run = new ExperimentRun();
    for (let count = 1; count <= 20; count++) restart(run, 10 * count);
    assert.equal(run.status, "waiting");
    assert.equal(run.experiment.restarts.failure, 20);
  });

  it("is used up by generations that repeat the same steps", () => {
    const run = new ExperimentRun();
    for (let count = 0; count <= MAX; count++) restart(run, 10);
    assert.equal(run.status, "failed");
  });

  it("is not touched by workers that are told to leave", () => {
    const run = new ExperimentRun();
    for (let count = 0; count < 10; count++) preempt(run);
    assert.equal(run.status, "waiting");
    assert.deepEqual(run.experiment.restarts, { failure: 0, preemption: 10, membership: 0 });
    for (let count = 0; count < MAX; count++) preempt(restart(run, 0));
    assert.equal(restart(run, 0).status, "failed");
  });

  it("counts the steps of each stage by themselves", () => {
    const run = running().progress(500).result("w0").result("w1").result("w2");
    assert.equal(run.experiment.furthestStep, 0);
    assert.equal(run.experiment.fruitlessRestarts, 0);
  });

  it("keeps a checkpoint of what may be the last try", () => {
    const run = restart(restart(restart(new ExperimentRun(), 5), 0), 0).assign();
    assert.deepEqual(run.fail("w1").aborts, [[false, true, "w0 w1 w2"]]);
  });
});

describe("lost steps", () => {
  it("are those between the furthest step and the first one after a restart", () => {
    const run = running()
      .progress(120)
      .fail("w1")
      .leave(...GANG)
      .assign();
    assert.equal(run.progress(101).experiment.lostSteps, 20);
    run
      .fail("w1")
      .leave(...GANG)
      .assign()
      .progress(102);
    assert.equal(run.experiment.lostSteps, 20 + 19);
  });

  it("are none when the gang goes on with the next step", () => {
    const run = running()
      .progress(120)
      .fail("w1")
      .leave(...GANG)
      .assign()
      .progress(121);
    assert.equal(run.experiment.lostSteps, 0);
    const resumed = run.experiment.timeline.find(({ type }) => type === "resumed");
    assert.equal(
      resumed?.message,
      "goes on with step 121, had come to 120: 0 steps have to be done again",
    );
  });
});
