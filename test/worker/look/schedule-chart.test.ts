import assert from "node:assert/strict";
import { drawChart } from "../../../proto/charts/draw-chart.ts";
import { loadRecipe } from "../../../proto/cli/load-recipe.ts";
import { planSchedule, scheduleChart } from "../../../worker/look/schedule-chart.ts";

describe("the picture of a schedule", () => {
  const recipe = () => loadRecipe("simclr_resnet50_16xb256-coslr-200e_in1k", []);

  it("goes through warm-up, peak and last step of the recipe", async () => {
    const plan = planSchedule(await recipe(), "pretrain", 1_281_167);
    assert.deepEqual([plan.epochs, plan.stepsPerEpoch, plan.warmupEpochs], [200, 313, 10]);
    const [first, last] = [plan.points[0]!, plan.points.at(-1)!];
    assert.deepEqual([first[0], first[1]], [0, 4.8 * 1e-4]);
    assert.deepEqual(plan.peak, [(3130 - 1) / 313, 4.8]);
    assert.equal(last[0], 200 - 1 / 313);
    assert.ok(Math.abs(plan.last - 0.000328068) < 1e-9, `the last rate is ${plan.last}`);
  });

  it("has every step of a short stage, and the ends of all epochs of a long one", async () => {
    const steps = (points: readonly (readonly number[])[]) =>
      points.map(([epoch]) => Math.round(epoch! * 2));
    const short = planSchedule(await recipe(), "linear", 8192);
    assert.deepEqual(
      steps(short.points),
      Array.from({ length: 180 }, (_, step) => step),
    );
    const long = planSchedule(await recipe(), "linear", 1_281_167);
    const drawn = new Set(long.points.map(([epoch]) => Math.round(epoch * 313)));
    for (let epoch = 0; epoch < 90; epoch++) {
      assert.ok(drawn.has(epoch * 313) && drawn.has(epoch * 313 + 312), `epoch ${epoch}`);
    }
  });

  it("marks the peak and the end of the warm-up", async () => {
    const stages = [planSchedule(await recipe(), "pretrain", 4096 * 5)];
    const svg = drawChart(scheduleChart(await recipe(), stages));
    for (const text of [
      "peak 4.8",
      "warm-up ends: epoch 10",
      "16 x 256 images, 5 steps an epoch",
    ]) {
      assert.ok(svg.includes(text), text);
    }
  });

  it("needs images for at least one step", async () => {
    const strict = await loadRecipe("demo", ["pretrain.dropLast=true"]);
    assert.throws(() => planSchedule(strict, "pretrain", 3), {
      code: "DATA_INVALID",
      message: /3 images make no full batch/,
    });
  });
});
