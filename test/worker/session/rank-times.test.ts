import assert from "node:assert/strict";
import { ownSeconds, withStep } from "../../../worker/session/rank-times.ts";
import type { StepReport } from "../../../worker/train/stage-job.ts";

describe("where a rank's time goes", () => {
  const step = (stepSeconds: number, waitSeconds: number, data: number): StepReport =>
    ({ stepSeconds, waitSeconds, phaseSeconds: { data } }) as StepReport;

  it("is the step without its waits, and the wait for data", () => {
    assert.deepEqual(withStep(undefined, step(5, 3, 1)), { ownStepSeconds: 2, dataSeconds: 1 });
  });

  it("is a mean over the steps in which a single one counts little", () => {
    const first = withStep(undefined, step(2, 0, 0));
    assert.deepEqual(withStep(first, step(12, 0, 1)), { ownStepSeconds: 3, dataSeconds: 0.1 });
  });

  it("is never negative", () => {
    assert.equal(ownSeconds({ stepSeconds: 1, waitSeconds: 1.001 }), 0);
  });
});
