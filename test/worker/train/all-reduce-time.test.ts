import assert from "node:assert/strict";
import { allReduceTime } from "../../../worker/train/all-reduce-time.ts";

describe("the time of a step's all-reduces", () => {
  it("is hidden but for what the engine waited", () => {
    assert.deepEqual(allReduceTime(0.5, 0.125), { seconds: 0.5, hidden: 0.75 });
    assert.deepEqual(allReduceTime(0.5, 0), { seconds: 0.5, hidden: 1 });
  });

  it("is not hidden at all when the engine waited for longer than they ran", () => {
    assert.deepEqual(allReduceTime(0.5, 0.6), { seconds: 0.5, hidden: 0 });
  });

  it("is not there when nothing was reduced", () => {
    assert.equal(allReduceTime(0, 0.001), undefined);
  });
});
