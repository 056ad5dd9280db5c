import assert from "node:assert/strict";
import type { ExperimentEvent } from "../../coordinator/experiment/experiment.ts";
import { historyOf, TIMELINE_LENGTH_MAX } from "../../coordinator/experiment/timeline.ts";
import { GANG, ExperimentRun as Run, running } from "./experiment-run.ts";
import { newExperiment, progressOf } from "./experiments.ts";

describe("experiment", () => {
  describe("when a gang is found", () => {
    it("forms, and tells every member its rank and the stage", () => {
      const run = new Run().assign(7);
      assert.equal(run.status, "forming");
      assert.equal(run.experiment.generation, 7);
      assert.deepEqual(run.effects, [
        { type: "assign", generation: 7, stage: "pretrain", gang: GANG },
      ]);
    });

    it("runs from rank 0's first report on", () => {
      const run = new Run().assign(1);
      assert.equal(run.progress(1).status, "running");
      assert.equal(run.experiment.progress?.step, 1);
    });

    it("takes no report but rank 0's", () => {
      const run = new Run().assign(1);
      const progress = progressOf("pretrain", 9);
      run.apply({ type: "progress", generation: 1, worker: "w1", progress });
      assert.equal(run.status, "forming");
    });

    it("refuses a gang of the wrong size", () => {
      assert.throws(() => new Run().assign(1, ["w0"]), /wrong size/);
    });

    it("refuses a generation that is not newer", () => {
      const run = running()
        .fail("w0")
        .leave(...GANG);
      assert.throws(() => run.assign(1), /must increase/);
    });
  });

  describe("when all ranks have delivered their result", () => {
    it("waits for the next stage", () => {
      const run = running().result("w0", '{"loss":1}').result("w2");
      assert.equal(run.status, "running");
      run.result("w1");

      assert.equal(run.status, "waiting");
      assert.equal(run.experiment.stageIndex, 1);
      assert.deepEqual(run.experiment.results, { pretrain: '{"loss":1}' });
      assert.equal(run.experiment.progress, undefined);
      assert.deepEqual(run.effects, [
        { type: "release", generation: 1, worker: "w1" },
        { type: "stage-ended", stage: "pretrain" },
      ]);
    });

    it("succeeds after the last stage", () => {
      const run = running().result("w0").result("w1").result("w2");
      run.assign(2, ["w0", "w1"]).result("w0", '{"top1":60}').result("w1");
      assert.equal(run.status, "succeeded");
      assert.deepEqual(run.experiment.results, { linear: '{"top1":60}' });
      assert.notEqual(run.experiment.finishedUnixMs, undefined);
    });

    it("counts a result that comes twice once", () => {
      assert.equal(running().result("w1").result("w1").result("w1").status, "running");
    });

    it("takes only rank 0's result.json", () => {
      assert.deepEqual(running().result("w1", '{"loss":2}').experiment.results, {});
    });

    it("forgets rank 0's result.json when the others break up before they are done", () => {
      assert.deepEqual(running().result("w0", "{}").fail("w1").experiment.results, {});
    });

    it("frees each member with its result", () => {
      const { effects } = running().result("w2");
      assert.deepEqual(effects, [{ type: "release", generation: 1, worker: "w2" }]);
    });

    it("lets a member go that has delivered", () => {
      assert.equal(running().result("w1").leave("w1").status, "running");
    });
  });

  describe("when a member fails", () => {
    it("stops the others and waits for all to leave", () => {
      const run = running().fail("w1");
      assert.equal(run.status, "stopping");
      assert.deepEqual(run.effects, [
        {
          type: "abort",
          generation: 1,
          workers: GANG,
          because: "rank 1: GENERATION_ABORTED: peer went away",
          atStepBoundary: false,
          keepCheckpoint: false,
        },
      ]);
      assert.equal(run.leave("w1", "w0").status, "stopping");
      assert.equal(run.leave("w2").status, "waiting");
      assert.deepEqual(run.experiment.restarts, { failure: 1, preemption: 0, membership: 0 });
    });

    it("does not wait for members that have delivered", () => {
      const run = running().result("w2").fail("w1");
      assert.deepEqual(
        run.effects.map((effect) => "workers" in effect && effect.workers),
        [["w0", "w1"]],
      );
      assert.equal(run.leave("w0", "w1").status, "waiting");
    });

    it("fails at once for a reason that another generation would meet again", () => {
      const run = running().fail("w1", { code: "LOSS_NOT_FINITE", message: "NaN at step 5" });
      run.leave(...GANG);
      assert.deepEqual(run.experiment.phase, {
        status: "failed",
        code: "LOSS_NOT_FINITE",
        message: "rank 1: LOSS_NOT_FINITE: NaN at step 5",
      });
      assert.deepEqual(run.effects, [{ type: "stage-ended", stage: "pretrain" }]);
    });

    it("fails for a fatal reason that comes after a peer has already left", () => {
      const run = running().leave("w0").fail("w1", { code: "DATA_INVALID", message: "no images" });
      assert.equal(run.leave("w1", "w2").status, "failed");
    });

    it("names the earliest fatal error as the root cause", () => {
      const run = running()
        .fail("w0", { unixMs: 1 })
        .fail("w2", { code: "STORAGE_FAILED", message: "disk full", unixMs: 9_000 })
        .fail("w1", { code: "DATA_INVALID", message: "no images", unixMs: 8_000 })
        .leave(...GANG);
      assert.match(JSON.stringify(run.experiment.phase), /rank 1: DATA_INVALID: no images/);
    });
  });

  describe("when a member is lost", () => {
    it("goes back to the queue and takes the rest of the gang along", () => {
      const run = running().leave("w2");
      assert.equal(run.status, "stopping");
      assert.deepEqual(
        run.effects.map((effect) => "workers" in effect && effect.workers),
        [["w0", "w1"]],
      );
      assert.equal(run.leave("w0", "w1").status, "waiting");
    });

    it("is also seen while the gang is forming", () => {
      assert.equal(new Run().assign(1).leave(...GANG).status, "waiting");
    });

    it("needs no one to be told when it was alone", () => {
      const run = new Run(newExperiment({ workers: [1] })).assign(1, ["w0"]).leave("w0");
      assert.equal(run.status, "waiting");
      assert.deepEqual(run.effects, []);
    });
  });

  describe("ignores", () => {
    const ignores = (run: Run, event: ExperimentEvent): void => {
      const before = run.experiment;
      run.apply(event);
      assert.equal(run.experiment, before);
      assert.deepEqual(run.effects, []);
    };
    const second = (): Run =>
      running()
        .fail("w0")
        .leave(...GANG)
        .assign(2)
        .progress(1);

    it("whatever is of an older generation", () => {
      const late = { generation: 1, worker: "w0" };
      ignores(second(), { type: "progress", ...late, progress: progressOf("pretrain", 99) });
      ignores(second(), { type: "result", ...late });
      const left = { name: "w0", because: "late", step: 9, lostRanks: [] };
      ignores(second(), { type: "left", ...late, ...left });
      ignores(second(), { type: "lost", ...late, name: "w0", because: "late" });
      const reform = { generation: 1, because: "late", keepCheckpoint: true } as const;
      ignores(second(), { type: "reform", cause: "membership", ...reform });
      const failure = { code: "UNEXPECTED", message: "late", unixMs: 0, step: 0 } as const;
      ignores(second(), { type: "failure", ...late, ...failure });
    });

    it("workers that are not of its gang", () => {
      ignores(running(), { type: "result", generation: 1, worker: "w9" });
      const lost = { generation: 1, worker: "w9", name: "w9", because: "gone" };
      ignores(running(), { type: "lost", ...lost });
    });

    it("members when no gang holds it", () => {
      const ended = running()
        .apply({ type: "cancel" })
        .leave(...GANG);
      ignores(ended, { type: "result", generation: 1, worker: "w0" });
    });

    it("progress of another stage", () => {
      const progress = progressOf("linear", 4);
      ignores(running(), { type: "progress", generation: 1, worker: "w0", progress });
    });
  });

  it("writes every change of state into its timeline, up to a bound", () => {
    const run = running();
    assert.deepEqual(
      historyOf(run.experiment.timeline).map(({ from, to, generation }) => [from, to, generation]),
      [
        ["waiting", "forming", 1],
        ["forming", "running", 1],
      ],
    );
    for (let count = 0; count < TIMELINE_LENGTH_MAX; count++) {
      run.apply({ type: "cancel" }).leave(...GANG);
      run.apply({ type: "retry" }).assign().progress(1);
    }
    assert.equal(run.experiment.timeline.length, TIMELINE_LENGTH_MAX);
  });
});
