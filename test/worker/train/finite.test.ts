import assert from "node:assert/strict";
import { assertFiniteNumbers, guardReducer } from "../../../worker/train/finite.ts";

describe("assertFiniteNumbers", () => {
  const where = { rank: 3, step: 17, what: "loss is" };

  it("lets finite numbers pass", () => {
    assertFiniteNumbers(Float32Array.of(0, -1, 3e38), where);
  });

  it("names the rank, the step and what was found", () => {
    assert.throws(() => assertFiniteNumbers(Float32Array.of(1, Number.NaN), where), {
      code: "LOSS_NOT_FINITE",
      message: /rank 3: loss is NaN in step 17/,
    });
    assert.throws(() => assertFiniteNumbers(Float32Array.of(Number.NEGATIVE_INFINITY), where), {
      message: /loss is infinite/,
    });
  });
});

describe("guardReducer", () => {
  it("stops NaN on the rank where it arose, before the others see it", () => {
    const unreachable = () => assert.fail("NaN must not be shared");
    const guarded = guardReducer({ moments: unreachable, sums: unreachable }, (values, what) =>
      assertFiniteNumbers(values, { rank: 1, step: 5, what }),
    );
    const variance = Float32Array.of(Number.NaN);
    assert.throws(() => guarded.moments({ mean: Float32Array.of(0), variance, count: 4 }), {
      message: /rank 1: activations are NaN in step 5/,
    });
    assert.throws(() => guarded.sums(Float32Array.of(Number.POSITIVE_INFINITY)), {
      message: /rank 1: gradients are infinite/,
    });
  });
});
