import assert from "node:assert/strict";
import { Silence } from "../../../worker/collective/silence.ts";

describe("silence", () => {
  it("lasts from the last sign of life", () => {
    const silence = new Silence(500);
    silence.lengthAt(1000);
    silence.lengthAt(1500);
    assert.equal(silence.lengthAt(2000), 1000);
    silence.heard();
    assert.equal(silence.lengthAt(2500), 500);
  });

  it("counts a stall of the listener for two ticks, however long it was", () => {
    const silence = new Silence(500);
    silence.lengthAt(1000);
    assert.equal(silence.lengthAt(61_000), 1000);
  });
});
