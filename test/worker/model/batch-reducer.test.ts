import assert from "node:assert/strict";
import { soloGroup } from "../../../worker/collective/process-group.ts";
import type { Moments } from "../../../worker/engine/engine.ts";
import { runLockStep } from "../../../worker/golden/lock-step-group.ts";
import { createBatchReducer } from "../../../worker/model/batch-reducer.ts";
import { initialState } from "../../../worker/model/initial-state.ts";
import { PretrainModel } from "../../../worker/model/pretrain-model.ts";
import { ReferenceEngine } from "../../support/reference-engine.ts";
import { randomFloats, tinyRecipe, withRandomNorms } from "./tiny-model.ts";

function momentsOf(values: Float32Array): Moments {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
  return {
    mean: Float32Array.of(mean),
    variance: Float32Array.of(variance),
    count: values.length,
  };
}

describe("batch reducer", () => {
  const ranks = [randomFloats(1, 40), randomFloats(2, 10), randomFloats(3, 300)];

  it("joins means and variances of ranks with unlike counts", () => {
    // Far from zero, where a difference of squares would cancel.
    const shifted = ranks.map((values) => values.map((value) => 1000 + value));
    const expected = momentsOf(Float32Array.from(shifted.flatMap((values) => [...values])));
    const results = runLockStep(3, (group) =>
      createBatchReducer(group).moments(momentsOf(shifted[group.rank]!)),
    );
    for (const moments of results) {
      assert.equal(moments.count, 350);
      assert.ok(Math.abs(moments.mean[0]! - expected.mean[0]!) < 1e-4);
      assert.ok(Math.abs(moments.variance[0]! / expected.variance[0]! - 1) < 1e-4);
      assert.deepEqual(moments, results[0], "all ranks have the same bits");
    }
  });

  it("adds sums over ranks, in place", () => {
    const results = runLockStep(3, (group) => {
      const sums = Float32Array.of(group.rank + 1, 10 * (group.rank + 1));
      createBatchReducer(group).sums(sums);
      return [...sums];
    });
    assert.deepEqual(results, Array(3).fill([6, 60]));
  });

  it("leaves a lone worker's statistics alone", () => {
    const moments = momentsOf(ranks[0]!);
    const { mean, variance, count } = createBatchReducer(soloGroup).moments(moments);
    assert.deepEqual(mean, moments.mean);
    assert.ok(Math.abs(variance[0]! / moments.variance[0]! - 1) < 1e-7);
    assert.equal(count, 40);
  });

  it("makes four workers compute what one does with the whole batch", function () {
    this.timeout(60_000);
    const [world, rows, pixels] = [4, 2, 3 * 8 * 8];
    const state = withRandomNorms(initialState(tinyRecipe, "pretrain", 1));
    const input = randomFloats(2, world * rows * pixels);
    const dz = randomFloats(3, world * rows * tinyRecipe.neck.out);

    const share = (all: Float32Array, rank: number, parts: number): Float32Array =>
      all.slice((rank * all.length) / parts, ((rank + 1) * all.length) / parts);
    const runAs = (group: Parameters<Parameters<typeof runLockStep>[1]>[0]) => {
      const engine = new ReferenceEngine();
      const model = new PretrainModel(engine, tinyRecipe, state);
      const own = share(input, group.rank, group.worldSize);
      const images = engine.upload(own, [own.length / pixels, 3, 8, 8]);
      const { z } = model.forwardTrain(images, createBatchReducer(group));
      const embeddings = engine.download(z);
      const gradients: Float32Array[] = [];
      const ownDz = engine.upload(share(dz, group.rank, group.worldSize), z.shape);
      model.backward(ownDz, (index, gradient) => {
        gradients[index] = engine.download(gradient);
      });
      model.commitStatistics();
      return { embeddings, gradients, state: model.exportState() };
    };

    const alone = runAs(soloGroup);
    const gang = runLockStep(world, runAs);
    const near = (actual: number, expected: number, scale: number, what: string): void =>
      assert.ok(Math.abs(actual - expected) <= 1e-4 * scale, `${what}: ${actual}, ${expected}`);
    for (const [rank, result] of gang.entries()) {
      const expected = share(alone.embeddings, rank, world);
      for (const [k, value] of expected.entries()) near(result.embeddings[k]!, value, 1, "z");
      for (const [name, { data }] of alone.state.tensors) {
        const actual = result.state.tensors.get(name)!.data;
        for (const [k, value] of data.entries()) near(actual[k]!, value, 1, name);
      }
      assert.deepEqual(result.state, gang[0]!.state, "all ranks have the same bits");
    }
    for (const [index, gradient] of alone.gradients.entries()) {
      const scale = Math.max(...gradient.map(Math.abs));
      for (const [k, value] of gradient.entries()) {
        const sum = gang.reduce((total, { gradients }) => total + gradients[index]![k]!, 0);
        near(sum, value, scale, `gradient ${index}[${k}]`);
      }
    }
  });
});
