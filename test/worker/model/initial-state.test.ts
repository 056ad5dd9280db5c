import assert from "node:assert/strict";
import { initialState } from "../../../worker/model/initial-state.ts";
import type { ModelState } from "../../../worker/model/model-state.ts";
import { tinyRecipe } from "./tiny-model.ts";

const recipe = { ...tinyRecipe, width: 0.5, zeroInitResidual: true, neck: { out: 128 } };

function values(state: ModelState, name: string): Float32Array {
  const tensor = state.tensors.get(name);
  assert.ok(tensor, name);
  return tensor.data;
}

function meanSquare(data: Float32Array): number {
  return data.reduce((sum, value) => sum + value ** 2, 0) / data.length;
}

describe("initial state", () => {
  const state = initialState(recipe, "pretrain", 7);

  it("depends on the seed and on nothing else", () => {
    assert.deepEqual(initialState(recipe, "pretrain", 7), state);
    assert.notDeepEqual(
      values(initialState(recipe, "pretrain", 8), "backbone.conv1.weight"),
      values(state, "backbone.conv1.weight"),
    );
  });

  it("gives tensors of equal shape different values", () => {
    assert.notDeepEqual(
      values(state, "backbone.layer1.0.conv1.weight"),
      values(state, "backbone.layer1.0.conv2.weight"),
    );
  });

  it("gives the linear stage the backbone of the pretrain stage", () => {
    const linear = initialState(recipe, "linear", 7, 10);
    for (const [name, tensor] of linear.tensors) {
      if (name.startsWith("backbone.")) assert.deepEqual(tensor, state.tensors.get(name), name);
    }
  });

  it("draws convolutions from Kaiming's normal distribution over fan-out", () => {
    const data = values(state, "backbone.layer4.1.conv2.weight");
    const variance = 2 / (9 * 256);
    // 589,824 draws: the variance is known to 0.2 % (one sigma).
    assert.ok(Math.abs(meanSquare(data) / variance - 1) < 0.01);
    assert.ok(Math.max(...data.subarray(0, 100_000)) > 3.5 * Math.sqrt(variance), "it has tails");
  });

  it("draws linear layers uniformly within 1 / sqrt(inputs)", () => {
    const data = values(state, "neck.fc0.weight");
    const bound = 1 / Math.sqrt(256);
    assert.ok(data.every((value) => Math.abs(value) <= bound));
    assert.ok(Math.abs(meanSquare(data) / (bound ** 2 / 3) - 1) < 0.02);
  });

  it("draws the classifier from a normal distribution of 0.01, with bias zero", () => {
    const linear = initialState(recipe, "linear", 7, 100);
    const weight = values(linear, "head.fc.weight");
    assert.ok(Math.abs(meanSquare(weight) / 0.01 ** 2 - 1) < 0.05);
    assert.ok(values(linear, "head.fc.bias").every((value) => value === 0));
  });

  it("starts the last norm of every block at zero and the other norms at one", () => {
    for (const [name, { data }] of state.tensors) {
      if (!/(bn\d|downsample\.1)\.weight$/.test(name)) continue;
      const expected = /^backbone\.layer.*\.bn2\./.test(name) ? 0 : 1;
      assert.ok(
        data.every((value) => value === expected),
        name,
      );
    }
    const plain = initialState({ ...recipe, zeroInitResidual: false }, "pretrain", 7);
    assert.equal(values(plain, "backbone.layer1.0.bn2.weight")[0], 1);
  });

  it("starts running statistics at mean zero and variance one", () => {
    assert.equal(state.batchesTracked, 0);
    assert.ok(values(state, "backbone.bn1.running_mean").every((value) => value === 0));
    assert.ok(values(state, "backbone.bn1.running_var").every((value) => value === 1));
  });
});
