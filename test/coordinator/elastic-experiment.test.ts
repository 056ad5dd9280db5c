import assert from "node:assert/strict";
import { reasonOf } from "../../coordinator/experiment/experiment.ts";
import { ExperimentRun, running } from "./experiment-run.ts";
import { newExperiment } from "./experiments.ts";

describe("elastic experiment", () => {
  const elastic = (): ExperimentRun => new ExperimentRun(newExperiment({ workers: [[3, 1], 2] }));
  const grow = (run: ExperimentRun, generation = run.experiment.generation): ExperimentRun =>
    run.apply({
      type: "reform",
      generation,
      cause: "membership",
      because: "grows from 1 to 3 workers",
      keepCheckpoint: false,
    });

  it("forms a gang of any size that it may have, and says so", () => {
    const run = elastic().assign(1, ["w0"]);
    assert.equal(run.experiment.timeline.at(-1)?.message, "goes on with 1 of 3 workers");
    assert.equal(reasonOf(run.progress(1).experiment), "on 1 of 3 workers");
    assert.equal(reasonOf(running().experiment), "");
    assert.throws(() => elastic().assign(1, ["w0", "w1"]), /wrong size/);
  });

  it("remembers the size that it came to a step with, until the stage ends", () => {
    const run = elastic().assign(1, ["w0"]).progress(1).fail("w0").leave("w0").assign(2);
    assert.deepEqual(run.experiment.settled, { generation: 1, size: 1 });
    run.progress(2).result("w0").result("w1").result("w2");
    assert.equal(run.status, "waiting");
    assert.equal(run.experiment.settled, undefined);
  });

  it("stops at a step boundary to grow, and keeps its state in memory", () => {
    const run = grow(elastic().assign(1, ["w0"]).progress(1));
    assert.equal(run.status, "stopping");
    assert.deepEqual(run.effects, [
      {
        type: "abort",
        generation: 1,
        workers: ["w0"],
        because: "grows from 1 to 3 workers",
        atStepBoundary: true,
        keepCheckpoint: false,
      },
    ]);
    assert.equal(run.leave("w0").status, "waiting");
    assert.equal(run.assign(2).progress(2).status, "running");
  });

  it("has its restart budget left, however often it grows", () => {
    const run = elastic();
    for (let count = 0; count < 2 * run.experiment.maxRestarts; count++) {
      grow(run.assign(undefined, ["w0"]).progress(1)).leave("w0");
    }
    assert.equal(run.status, "waiting");
    assert.equal(run.experiment.fruitlessRestarts, 0);
  });

  it("is not stopped to grow when that generation is over", () => {
    const run = elastic().assign(1, ["w0"]).progress(1).fail("w0").leave("w0").assign(2);
    assert.equal(grow(run, 1).status, "forming");
    assert.equal(grow(run.fail("w1")).effects.length, 0);
  });
});
