import assert from "node:assert/strict";
import type { Phase } from "../../../coordinator/experiment/phase.ts";
import type { OwnJob } from "../../../coordinator/launcher/own-job.ts";
import {
  FAILURES_MAX,
  type LaunchPlan,
  type Need,
  needsOf,
  planLaunch,
} from "../../../coordinator/launcher/plan-launch.ts";
import { newExperiment } from "../experiments.ts";

const need: Need = {
  ...{ experimentId: "a-1", stage: "pretrain", workers: 4 },
  ...{ hasGang: false, isEnding: false },
};

function job(more: Partial<OwnJob> = {}): OwnJob {
  const { attempt = 1 } = more;
  return {
    ...{ name: `a-1-pretrain-${attempt}`, uid: `uid-${attempt}`, experimentId: "a-1" },
    ...{ stage: "pretrain", attempt, workers: 4, failure: undefined, epoch: 1 },
    ...{ isSuspended: false, isBeingDeleted: false },
    ...more,
  };
}

const failed = (attempt: number): OwnJob => job({ attempt, workers: 0, failure: "BadExit: 15" });

/** Actions in short, after the stage has been short of workers for `waitedMs`. */
function actions(needs: readonly Need[], jobs: readonly OwnJob[], waitedMs = 0): string[] {
  const first = planLaunch(needs, jobs, { before: new Map(), nowMs: 0 });
  const plan: LaunchPlan =
    waitedMs === 0
      ? first
      : planLaunch(needs, jobs, { before: first.shortSinceMs, nowMs: waitedMs });
  return plan.actions.map((action) =>
    action.type === "create"
      ? `create ${action.experimentId} ${action.stage} ${action.attempt} x ${action.workers}`
      : `delete ${action.job.name}`,
  );
}

function hint(jobs: readonly OwnJob[]): string | undefined {
  return planLaunch([need], jobs, { before: new Map(), nowMs: 0 }).hints.get("a-1");
}

describe("plan of launches", () => {
  it("has one Job for the stage that an experiment is in, and none for any other", () => {
    assert.deepEqual(actions([need], []), ["create a-1 pretrain 1 x 4"]);
    assert.deepEqual(actions([need], [job()]), []);
    const linear: Need = { ...need, stage: "linear", workers: 2 };
    assert.deepEqual(actions([linear], [job()]), [
      "delete a-1-pretrain-1",
      "create a-1 linear 1 x 2",
    ]);
    assert.deepEqual(actions([], [job()]), ["delete a-1-pretrain-1"]);
  });

  it("leaves a Job alone that is being deleted, and gives the next one another name", () => {
    assert.deepEqual(actions([], [job({ isBeingDeleted: true })]), []);
    assert.deepEqual(actions([need], [job({ isBeingDeleted: true })]), [
      "create a-1 pretrain 2 x 4",
    ]);
  });

  it("makes up for workers that have left for good, after a pause", () => {
    assert.deepEqual(actions([need], [job({ workers: 3 })]), []);
    assert.deepEqual(actions([need], [job({ workers: 3 })], 9_999), []);
    assert.deepEqual(actions([need], [job({ workers: 3 })], 10_000), ["create a-1 pretrain 2 x 1"]);
    assert.deepEqual(actions([need], [job({ workers: 0 })], 10_000), ["create a-1 pretrain 2 x 4"]);
    const both = [job({ workers: 3 }), job({ attempt: 2, workers: 1 })];
    assert.deepEqual(actions([need], both, 1_000_000), []);
  });

  it("replaces a failed Job after ever longer pauses, and not for ever", () => {
    assert.deepEqual(actions([need], [failed(1)], 10_000), ["create a-1 pretrain 2 x 4"]);
    assert.deepEqual(actions([need], [failed(1), failed(2)], 19_999), []);
    assert.deepEqual(actions([need], [failed(1), failed(2)], 20_000), [
      "create a-1 pretrain 3 x 4",
    ]);
    const all = Array.from({ length: FAILURES_MAX }, (_, index) => failed(index + 1));
    assert.deepEqual(actions([need], all, 10_000_000), []);
    assert.equal(hint(all.slice(0, 1)), "Job a-1-pretrain-1 has failed: BadExit: 15");
    assert.match(hint(all) ?? "", /BadExit: 15; it was the 3rd one: pause and resume it/);
  });

  it("says that a Job is suspended", () => {
    assert.equal(hint([job({ isSuspended: true })]), "Job a-1-pretrain-1 is suspended");
    assert.equal(hint([job()]), undefined);
  });

  it("wants as many workers as the stage may have, but none for what is over or paused", () => {
    const fresh = newExperiment({ id: "a-1", workers: [[4, 2], 1] });
    assert.deepEqual(needsOf([fresh]), [need]);
    assert.deepEqual(needsOf([{ ...fresh, stageIndex: 1 }]), [
      { ...need, stage: "linear", workers: 1 },
    ]);
    const running = { status: "running", gang: ["w0"], finished: [] } as const;
    assert.deepEqual(needsOf([{ ...fresh, phase: running }]), [{ ...need, hasGang: true }]);
    const phases = [
      { status: "succeeded" },
      { status: "paused", because: "" },
      { status: "failed", code: "UNEXPECTED", message: "" },
      { status: "cancelled", because: "" },
    ] as const;
    for (const phase of phases) assert.deepEqual(needsOf([{ ...fresh, phase }]), []);
  });

  it("lets experiments take turns, so that none waits with half of its pods for another", () => {
    const other: Need = { ...need, experimentId: "b-1" };
    const jobOfOther = job({ name: "b-1-pretrain", experimentId: "b-1" });
    assert.deepEqual(actions([need, other], []), ["create a-1 pretrain 1 x 4"]);
    assert.deepEqual(actions([need, other], [job()]), []);
    assert.deepEqual(actions([{ ...need, hasGang: true }, other], [job()]), [
      "create b-1 pretrain 1 x 4",
    ]);
    const { hints } = planLaunch([need, other], [], { before: new Map(), nowMs: 0 });
    assert.deepEqual([...hints], [["b-1", "waits until a-1 has its workers"]]);
    const linear: Need = { ...need, stage: "linear", workers: 2 };
    assert.deepEqual(actions([linear, other], [jobOfOther]), [
      "create a-1 linear 1 x 2",
      "delete b-1-pretrain",
    ]);
    const admitted = job({ isSuspended: true });
    assert.deepEqual(actions([need, other], [admitted]), ["create b-1 pretrain 1 x 4"]);
    const all = Array.from({ length: FAILURES_MAX }, (_, index) => failed(index + 1));
    assert.deepEqual(actions([need, other], all), ["create b-1 pretrain 1 x 4"]);
  });

  it("has those go first that are to, then those that came first", () => {
    const [late, urgent, early] = (
      [
        ["late", 0, 2],
        ["urgent", 1, 3],
        ["early", 0, 1],
      ] as const
    ).map(([id, priority, submittedUnixMs]) => {
      return { ...newExperiment({ id, workers: [1] }), priority, submittedUnixMs };
    });
    assert.ok(late && urgent && early);
    const order = needsOf([late, urgent, early]).map(({ experimentId }) => experimentId);
    assert.deepEqual(order, ["urgent", "early", "late"]);
  });

  it("adds nothing to a gang that is about to end, and takes nothing from it", () => {
    const stopping = (aim: "pause" | "restart"): readonly Need[] => {
      const phase: Phase = {
        status: "stopping",
        aim,
        gang: ["w0"],
        left: [],
        cause: "membership",
        mode: { atStepBoundary: true, keepCheckpoint: true },
        because: "",
        failures: [],
        lostContacts: [],
      };
      return needsOf([{ ...newExperiment({ id: "a-1", workers: [4] }), phase }]);
    };
    assert.deepEqual(actions(stopping("pause"), []), []);
    assert.deepEqual(actions(stopping("pause"), [job()]), []);
    assert.deepEqual(actions(stopping("restart"), []), ["create a-1 pretrain 1 x 4"]);
  });
});
