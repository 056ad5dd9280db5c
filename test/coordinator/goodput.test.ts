import assert from "node:assert/strict";
import { wallSecondsAt } from "../../coordinator/experiment/goodput.ts";
import { ExperimentRun, GANG } from "./experiment-run.ts";

describe("goodput", () => {
  const productive = ({ experiment }: ExperimentRun): number | undefined =>
    experiment.goodput?.productiveSeconds;
  /** To the second: each event takes one millisecond. */
  const wall = (run: ExperimentRun, untilMs: number): number => {
    assert.ok(run.experiment.goodput);
    return Math.round(wallSecondsAt(run.experiment.goodput, untilMs));
  };
  const loseGang = (run: ExperimentRun): ExperimentRun => run.lose("w1").leave("w0", "w2");

  it("is of nothing before the first gang", () => {
    const run = new ExperimentRun().wait(60_000).apply({ type: "pause" });
    assert.equal(run.experiment.goodput, undefined);
  });

  it("counts what the steps have taken, however the reports divide them", () => {
    const run = new ExperimentRun().assign();
    run.progress(1, { trainingSeconds: 0.5 }).progress(6, { trainingSeconds: 3 });
    assert.equal(productive(run), 3);
  });

  it("counts a report once", () => {
    const run = new ExperimentRun().assign();
    run.progress(1, { trainingSeconds: 0.5 }).progress(4, { trainingSeconds: 2 });
    run.progress(4, { trainingSeconds: 2 }).progress(2, { trainingSeconds: 1 });
    assert.equal(productive(run), 2);
  });

  it("counts steps that are taken again once", () => {
    const run = new ExperimentRun().assign().progress(1, { trainingSeconds: 0.5 });
    loseGang(run.progress(6, { trainingSeconds: 3 })).assign();
    run.progress(3, { trainingSeconds: 0.5 });
    assert.equal(productive(run), 3);
    // Two of the four steps since then are new.
    run.progress(8, { trainingSeconds: 0.5 + 5 });
    assert.equal(productive(run), 3 + 2);
  });

  it("counts what a gang reports while it stops", () => {
    const run = new ExperimentRun().assign().progress(1, { trainingSeconds: 0.5 });
    run.apply({ type: "cancel" }).progress(2, { trainingSeconds: 1 });
    assert.equal(productive(run), 1);
  });

  it("is of the time since the first gang, in which the experiment was not paused", () => {
    const run = new ExperimentRun().wait(50_000).assign();
    run.progress(1, { trainingSeconds: 0.5 }).wait(10_000);
    loseGang(run).wait(5_000).assign();
    assert.equal(wall(run, 1_000 + 65_000), 15, "waiting for a gang counts");
    run.progress(2, { trainingSeconds: 0.5 }).apply({ type: "pause" });
    run.leave(...GANG).wait(100_000);
    assert.equal(run.status, "paused");
    assert.equal(wall(run, 1_000_000), 15);
    run.apply({ type: "resume" }).wait(5_000).apply({ type: "cancel" });
    assert.equal(run.status, "cancelled");
    assert.equal(wall(run, 2_000_000), 20);
    run.apply({ type: "retry" }).wait(1_000).assign();
    assert.equal(wall(run, 1_000 + 171_000), 21);
  });
});
