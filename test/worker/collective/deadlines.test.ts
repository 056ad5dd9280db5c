import assert from "node:assert/strict";
import { Deadlines } from "../../../worker/collective/deadlines.ts";

describe("a collective's deadline", () => {
  it("is generous for the first of its kind", () => {
    const deadlines = new Deadlines();
    deadlines.record("all-gather of 8 bytes", 10);
    assert.equal(deadlines.limitOf("all-reduce of 8 bytes"), 600_000);
  });

  it("follows the slowest of its recent likes", () => {
    const deadlines = new Deadlines();
    deadlines.record("barrier", 9000);
    deadlines.record("barrier", 4000);
    assert.equal(deadlines.limitOf("barrier"), 180_000);
    for (let i = 0; i < 32; i++) deadlines.record("barrier", 4000);
    assert.equal(deadlines.limitOf("barrier"), 80_000);
  });

  it("leaves room for a pause where all were fast", () => {
    const deadlines = new Deadlines();
    deadlines.record("barrier", 1);
    assert.equal(deadlines.limitOf("barrier"), 60_000);
  });

  it("can be fixed", () => {
    const deadlines = new Deadlines(1000);
    deadlines.record("barrier", 9000);
    assert.equal(deadlines.limitOf("barrier"), 1000);
  });
});
