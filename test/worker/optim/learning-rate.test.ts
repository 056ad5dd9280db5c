import assert from "node:assert/strict";
import type { ScheduleRecipe } from "../../../proto/recipe.ts";
import { learningRateAt } from "../../../worker/optim/learning-rate.ts";

const cosine: ScheduleRecipe = {
  warmupEpochs: 10,
  warmupStartFactor: 1e-4,
  decay: "cosine",
  decayPer: "epoch",
  minLr: 0,
};
const length = { baseLr: 4.8, epochs: 200, stepsPerEpoch: 313 };

function near(actual: number, expected: number): void {
  assert.ok(Math.abs(actual - expected) <= 1e-6 * Math.abs(expected), `${actual}, ${expected}`);
}

describe("learning rate", () => {
  it("warms up per step, and reaches its peak at the last step of warm-up", () => {
    near(learningRateAt(cosine, length, 0), 4.8e-4);
    near(learningRateAt(cosine, length, 156), 0.2397657526366251);
    near(learningRateAt(cosine, length, 3129), 4.8);
  });

  it("falls by a cosine, once an epoch", () => {
    for (const [epoch, expected] of [
      [10, 4.8],
      [11, 4.79967],
      [50, 4.29394],
      [105, 2.4],
      [199, 3.28068e-4],
    ] as const) {
      near(Math.round(learningRateAt(cosine, length, epoch * 313) * 1e9) / 1e9, expected);
      assert.equal(
        learningRateAt(cosine, length, epoch * 313),
        learningRateAt(cosine, length, epoch * 313 + 312),
      );
    }
  });

  it("falls at every step on demand, and agrees with the epochs where they start", () => {
    const perStep = { ...cosine, decayPer: "step" } as const;
    assert.equal(
      learningRateAt(perStep, length, 313 * 50),
      learningRateAt(cosine, length, 313 * 50),
    );
    assert.ok(
      learningRateAt(perStep, length, 313 * 50 + 1) < learningRateAt(perStep, length, 313 * 50),
    );
    assert.ok(learningRateAt(perStep, length, 62_599) < 1e-7);
  });

  it("ends above its minimum by less than the last stretch of the cosine", () => {
    const floored = { ...cosine, minLr: 0.1 };
    const last = learningRateAt(floored, length, 62_599);
    assert.ok(last > 0.1 && last < 0.1 + 3.3e-4);
  });

  it("stays where it is without decay", () => {
    const constant = { ...cosine, decay: "constant" } as const;
    assert.equal(learningRateAt(constant, length, 3130), 4.8);
    assert.equal(learningRateAt(constant, length, 62_599), 4.8);
    near(learningRateAt(constant, length, 0), 4.8e-4);
  });

  it("starts at the full rate without warm-up", () => {
    const schedule = { ...cosine, warmupEpochs: 0 };
    const linear = { baseLr: 1.6, epochs: 90, stepsPerEpoch: 4 };
    assert.equal(learningRateAt(schedule, linear, 0), 1.6);
    near(learningRateAt(schedule, linear, 4 * 89 + 3), 0.00048733838472339033);
  });

  it("holds its peak from a warm-up that ends within an epoch to the next epoch", () => {
    const schedule = { ...cosine, warmupEpochs: 0.5 };
    const short = { baseLr: 1, epochs: 4, stepsPerEpoch: 4 };
    const rates = [0, 1, 2, 3, 4].map((step) => learningRateAt(schedule, short, step));
    near(rates[0]!, 1e-4);
    assert.deepEqual(rates.slice(1, 4), [1, 1, 1]);
    near(rates[4]!, (1 + Math.cos((Math.PI * 0.5) / 3.5)) / 2);
  });

  it("survives a warm-up of a single step", () => {
    const schedule = { ...cosine, warmupEpochs: 1 };
    assert.equal(learningRateAt(schedule, { baseLr: 1, epochs: 4, stepsPerEpoch: 1 }, 0), 1);
  });

  it("has no step after the last", () => {
    assert.throws(() => learningRateAt(cosine, length, 62_600), /within the schedule/);
  });
});
