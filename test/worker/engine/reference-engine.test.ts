/**
 * The reference engine has no reference itself: its forwards are the definitions, its backwards are
 * compared with finite differences of them.
 */

import assert from "node:assert/strict";
import type { BatchReducer, Tensor } from "../../../worker/engine/engine.ts";
import { Prng } from "../../support/prng.ts";
import { ReferenceEngine } from "../../support/reference-engine.ts";

const STEP = 1e-5;
const TOLERANCE = 1e-7;

interface Variable {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

describe("reference engine", () => {
  let engine: ReferenceEngine;
  let prng: Prng;

  beforeEach(() => {
    engine = new ReferenceEngine();
    prng = new Prng(7);
  });

  /** Values in [-1, 1) that stay clear of the kinks of ReLU and max-pool by far more than STEP. */
  function draw(...shape: number[]): Variable {
    const size = shape.reduce((product, axis) => product * axis, 1);
    return { shape, data: Float64Array.from({ length: size }, () => 2 * prng.next() - 1) };
  }

  const load = ({ data, shape }: Variable): Tensor => engine.uploadExact(data, shape);

  function dot(tensor: Tensor, direction: Variable): number {
    return engine
      .downloadExact(tensor)
      .reduce((sum, value, k) => sum + value * direction.data[k]!, 0);
  }

  /** Compares `gradient` with the slope of `loss` along every element of `variable`. */
  function checkGradient(variable: Variable, gradient: Tensor, loss: () => number): void {
    const expected = engine.downloadExact(gradient);
    assert.deepEqual(gradient.shape, variable.shape);
    for (let k = 0; k < variable.data.length; k++) {
      const at = variable.data[k]!;
      variable.data[k] = at + STEP;
      const up = loss();
      variable.data[k] = at - STEP;
      const down = loss();
      variable.data[k] = at;
      const slope = (up - down) / (2 * STEP);
      assert.ok(
        Math.abs(expected[k]! - slope) < TOLERANCE,
        `element ${k} is ${expected[k]}, finite difference ${slope}`,
      );
    }
  }

  for (const [stride, padding, kernel] of [
    [1, 1, 3],
    [2, 1, 3],
    [2, 0, 1],
    [2, 3, 7],
  ] as const) {
    it(`differentiates a ${kernel}x${kernel} convolution of stride ${stride}`, () => {
      const geometry = { stride, padding };
      const x = draw(2, 2, 6, 5);
      const weight = draw(3, 2, kernel, kernel);
      const y = engine.convolution(load(x), load(weight), geometry);
      const c = draw(...y.shape);
      const loss = (): number => dot(engine.convolution(load(x), load(weight), geometry), c);
      const dx = engine.convolutionBackwardInput(load(c), load(weight), x.shape, geometry);
      const dWeight = engine.convolutionBackwardWeight(load(x), load(c), weight.shape, geometry);
      checkGradient(x, dx, loss);
      checkGradient(weight, dWeight, loss);
    });
  }

  it("convolves by the definition", () => {
    const x = engine.upload(Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9), [1, 1, 3, 3]);
    const weight = engine.upload(Float32Array.of(1, 10, 100, 1000), [1, 1, 2, 2]);
    const y = engine.convolution(x, weight, { stride: 1, padding: 0 });
    assert.deepEqual(y.shape, [1, 1, 2, 2]);
    assert.deepEqual([...engine.download(y)], [5421, 6532, 8754, 9865]);
  });

  for (const relu of [false, true])
    for (const withResidual of [false, true])
      it(`differentiates batch norm, ReLU ${relu}, residual ${withResidual}`, () => {
        const [x, weight, bias] = [draw(3, 2, 2, 2), draw(2), draw(2)];
        const [residual, c] = [draw(...x.shape), draw(...x.shape)];
        const forward = () =>
          engine.batchNormTrain(
            { x: load(x), weight: load(weight), bias: load(bias) },
            {
              eps: 1e-3,
              relu,
              ...(withResidual && { residual: load(residual) }),
            },
          );
        const loss = (): number => dot(forward().y, c);
        const gradients = engine.batchNormBackward(load(c), forward().saved);
        checkGradient(x, gradients.dx, loss);
        checkGradient(weight, gradients.dWeight, loss);
        checkGradient(bias, gradients.dBias, loss);
        assert.equal(gradients.dResidual !== undefined, withResidual);
        if (gradients.dResidual) checkGradient(residual, gradients.dResidual, loss);
      });

  it("normalises with the statistics that the reducer returns", () => {
    const reducer: BatchReducer = {
      moments: () => ({ mean: Float32Array.of(1), variance: Float32Array.of(4), count: 6 }),
      sums: () => {},
    };
    const x = engine.upload(Float32Array.of(3, 5, -1), [3, 1]);
    const one = engine.upload(Float32Array.of(1), [1]);
    const zero = engine.upload(Float32Array.of(0), [1]);
    const { y } = engine.batchNormTrain(
      { x, weight: one, bias: zero },
      { eps: 0, relu: false },
      reducer,
    );
    assert.deepEqual([...engine.download(y)], [1, 2, -1]);
  });

  it("differentiates the pools", () => {
    const x = draw(1, 2, 5, 6);
    const { y, saved } = engine.maxPool(load(x));
    const c = draw(...y.shape);
    checkGradient(x, engine.maxPoolBackward(load(c), saved), () =>
      dot(engine.maxPool(load(x)).y, c),
    );
    const d = draw(1, 2);
    checkGradient(x, engine.globalAveragePoolBackward(load(d), x.shape), () =>
      dot(engine.globalAveragePool(load(x)), d),
    );
  });

  it("differentiates the linear layer", () => {
    const [x, weight, bias, c] = [draw(3, 4), draw(2, 4), draw(2), draw(3, 2)];
    const loss = (): number => dot(engine.linear(load(x), load(weight), load(bias)), c);
    checkGradient(x, engine.linearBackwardInput(load(c), load(weight)), loss);
    checkGradient(weight, engine.linearBackwardWeight(load(x), load(c)), loss);
    checkGradient(bias, engine.linearBackwardBias(load(c)), loss);
  });

  it("differentiates softmax cross entropy", () => {
    const logits = draw(3, 4);
    const labels = Int32Array.of(2, 0, 3);
    const { dLogits } = engine.softmaxCrossEntropy(load(logits), labels, 0.5);
    checkGradient(
      logits,
      dLogits,
      () => 0.5 * engine.softmaxCrossEntropy(load(logits), labels, 1).lossSum,
    );
  });

  it("differentiates the global mean NT-Xent loss, whichever worker computes it", () => {
    const [rows, width, temperature] = [8, 3, 0.5];
    const z = draw(rows, width);
    // In float64: what the interface hands out is rounded to float32.
    const loss = (): number => {
      let sum = 0;
      for (let i = 0; i < rows; i++) {
        const s = Array.from({ length: rows }, (_, j) => {
          let product = 0;
          for (let d = 0; d < width; d++)
            product += z.data[i * width + d]! * z.data[j * width + d]!;
          return product / temperature;
        });
        const others = s.filter((_, j) => j !== i);
        sum += Math.log(others.reduce((total, v) => total + Math.exp(v), 0)) - s[i ^ 1]!;
      }
      return sum / rows;
    };
    const all = { begin: 0, temperature };
    const { logSumExp_R: lse_G } = engine.contrastiveRows(load(z), load(z), all);
    const gradient = new Float64Array(z.data.length);
    for (const begin of [0, 4]) {
      const own = { shape: [4, width], data: z.data.slice(begin * width, (begin + 4) * width) };
      const options = { begin, temperature };
      const part = engine.contrastiveRows(load(own), load(z), options);
      const dz_RD = engine.contrastiveGradient(part, load(z), lse_G, options);
      gradient.set(engine.downloadExact(dz_RD), begin * width);
    }
    checkGradient(z, engine.uploadExact(gradient, z.shape), loss);
  });

  it("steps as LARS and as SGD", () => {
    const step = (options: object): number[] => {
      const weight = engine.upload(Float32Array.of(3, 4), [2]);
      const velocity = engine.upload(Float32Array.of(1, 0), [2]);
      const base = { lr: 0.5, momentum: 0.5, weightDecay: 0, nesterov: false, gradientScale: 2 };
      engine.update(weight, velocity, Float32Array.of(0, 1), { ...base, ...options });
      return [...engine.downloadExact(weight), ...engine.downloadExact(velocity)];
    };
    assert.deepEqual(step({}), [2.5, 3, 0.5, 1]);
    assert.deepEqual(step({ nesterov: true }), [2.75, 2.5, 0.5, 1]);
    // |w| = 5, |g| = 2: local = 0.4 * 5 / (2 + 0.5) = 0.8.
    const lars = { trustCoefficient: 0.4, eps: 0.5 };
    const [a, b] = step({ lars });
    assert.equal(a, 2.5);
    assert.ok(Math.abs(b! - 3.2) < 1e-12);
  });
});
