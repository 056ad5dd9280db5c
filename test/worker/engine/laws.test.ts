/** What holds for every engine whatever it computes: ownership, misuse, ranks, divergence. */

import assert from "node:assert/strict";
import type {
  BatchNormTrained,
  BatchReducer,
  Engine,
  Moments,
  Tensor,
} from "../../../worker/engine/engine.ts";
import { relativeError, Trial } from "../../support/compare-engines.ts";
import { describeEngines } from "../../support/engines.ts";

const PLAIN = { stride: 1, padding: 1 };
const NORM = { eps: 1e-5, relu: true };

describeEngines("ownership", (engine) => {
  const tensor = (...values: number[]): Tensor =>
    engine().upload(Float32Array.from(values), [values.length]);
  const tensors = (): number => engine().memory().tensors;

  it("frees what a scope made, but not what its result reaches", () => {
    const outer = tensor(1, 2);
    const kept = engine().scope(() => {
      const [a, b, c] = [tensor(1), tensor(2), tensor(3)];
      engine().add(a, b);
      return { list: [a, new Map([["b", { deep: b }]])], set: new Set([c]), outer };
    });
    assert.equal(tensors(), 4);
    const [a, map] = kept.list as [Tensor, Map<string, { deep: Tensor }>];
    assert.deepEqual([...engine().download(a)], [1]);
    engine().release(a, map.get("b")!.deep, ...kept.set, outer);
  });

  it("hands a result on to the scope around it", () => {
    engine().scope(() => {
      const kept = engine().scope(() => engine().scope(() => tensor(5)));
      assert.deepEqual([...engine().download(kept)], [5]);
      assert.equal(tensors(), 1);
    });
  });

  it("frees everything when a scope's body throws", () => {
    const failing = (): void => {
      tensor(1);
      engine().scope(() => tensor(2));
      throw new Error("inside");
    };
    assert.throws(() => engine().scope(failing), /inside/);
    assert.equal(tensors(), 0);
  });

  it("refuses an asynchronous body", () => {
    assert.throws(() => engine().scope(async () => {}), /synchronous/);
  });

  it("counts the bytes that are held", () => {
    const image = engine().upload(new Float32Array(96), [1, 4, 6, 4]);
    assert.deepEqual(engine().memory(), { tensors: 1, bytes: 384 });
    engine().release(image);
  });

  it("frees before the scope's end, once", () => {
    const a = tensor(1);
    engine().release(a);
    assert.equal(tensors(), 0);
    assert.throws(() => engine().release(a), /was released/);
  });

  it("refuses a released tensor, and one of another engine", () => {
    const [a, b] = [tensor(1), tensor(2)];
    engine().release(a);
    assert.throws(() => engine().add(a, b), /was released/);
    assert.throws(() => engine().download(a), /was released/);
    assert.throws(() => engine().add(b, { shape: [1] }), /another engine/);
    engine().release(b);
  });

  it("leaves the backward what it needs when the forward's tensors are released", () => {
    const gradients = (isEager: boolean): Float32Array[] =>
      engine().scope(() => {
        const trial = new Trial(engine());
        const [x, weight, bias] = [
          trial.tensor([2, 3, 6, 6]),
          trial.tensor([3]),
          trial.tensor([3]),
        ];
        const norm = engine().batchNormTrain({ x, weight, bias }, NORM);
        const pool = engine().maxPool(norm.y);
        if (isEager) engine().release(x, weight, bias, norm.y, pool.y);
        const dy = engine().maxPoolBackward(trial.tensor([2, 3, 3, 3]), pool.saved);
        const { dx, dWeight } = engine().batchNormBackward(dy, norm.saved);
        return [engine().download(dx), engine().download(dWeight)];
      });
    assert.deepEqual(gradients(true), gradients(false));
  });

  it("does not let a backward start from released state", () => {
    engine().scope(() => {
      const x = new Trial(engine()).tensor([2, 3, 6, 6]);
      const { y, saved } = engine().maxPool(x);
      engine().release(...saved.tensors);
      assert.throws(() => engine().maxPoolBackward(y, saved), /was released/);
    });
  });

  it("keeps apart what it was given, what it holds and what it hands out", () => {
    const data = Float32Array.of(1, 2, 3);
    const held = engine().upload(data, [3]);
    data.fill(9);
    engine().download(held).fill(8);
    assert.deepEqual([...engine().download(held)], [1, 2, 3]);
    engine().assign(held, data);
    data.fill(7);
    const target = new Float32Array(new SharedArrayBuffer(12));
    assert.equal(engine().download(held, target), target);
    assert.deepEqual([...target], [9, 9, 9]);
    engine().release(held);
  });

  it("assigns in the logical layout to a weight that was in use", () => {
    engine().scope(() => {
      const trial = new Trial(engine());
      const [x, weight] = [trial.tensor([1, 2, 5, 5]), trial.tensor([3, 2, 3, 3])];
      engine().convolution(x, weight, PLAIN);
      const values = trial.values(54);
      engine().assign(weight, values);
      assert.deepEqual(engine().download(weight), values);
      const fresh = engine().upload(values, [3, 2, 3, 3]);
      assert.deepEqual(
        engine().download(engine().convolution(x, weight, PLAIN)),
        engine().download(engine().convolution(x, fresh, PLAIN)),
      );
    });
  });

  it("holds no more after 200 steps than after 20", () => {
    const { step, weights } = smallTraining(engine());
    for (let k = 0; k < 20; k++) step();
    const [before, residentBefore] = [engine().memory(), process.memoryUsage.rss()];
    for (let k = 0; k < 180; k++) step();
    assert.deepEqual(engine().memory(), before);
    // A step makes 4 MB of tensors, so a leak of one in a hundred would show.
    const grownMB = (process.memoryUsage.rss() - residentBefore) / 2 ** 20;
    assert.ok(grownMB < 32, `${grownMB} MB more`);
    engine().release(...weights);
  });
});

/** One convolution, batch norm and update on [16,8,32,32]. */
function smallTraining(engine: Engine): { step: () => void; weights: readonly Tensor[] } {
  const trial = new Trial(engine);
  const [weight, velocity] = [trial.tensor([8, 8, 3, 3]), trial.tensor([8, 8, 3, 3])];
  const [scale, offset, x] = [trial.tensor([8]), trial.tensor([8]), trial.tensor([16, 8, 32, 32])];
  const options = { lr: 1e-3, momentum: 0.9, weightDecay: 0, nesterov: false, gradientScale: 1 };
  const step = (): void =>
    engine.scope(() => {
      const y = engine.convolution(x, weight, PLAIN);
      const norm = engine.batchNormTrain(
        { x: y, weight: scale, bias: offset },
        { ...NORM, residual: x },
      );
      const { dx } = engine.batchNormBackward(norm.y, norm.saved);
      engine.convolutionBackwardInput(dx, weight, x.shape, PLAIN);
      const gradient = engine.convolutionBackwardWeight(x, dx, weight.shape, PLAIN);
      engine.update(weight, velocity, engine.download(gradient), options);
    });
  return { step, weights: [weight, velocity, scale, offset, x] };
}

describeEngines("misuse", (engine) => {
  const refused = (title: string, message: RegExp, body: (trial: Trial) => void): void => {
    it(`refuses ${title}`, () => {
      engine().scope(() => {
        const trial = new Trial(engine());
        assert.throws(() => body(trial), message);
      });
    });
  };

  refused("data that does not fill the shape", /does not fill/, () =>
    engine().upload(new Float32Array(5), [2, 3]),
  );
  refused("a weight for other channels", /does not fit/, (trial) =>
    engine().convolution(trial.tensor([1, 3, 4, 4]), trial.tensor([2, 4, 3, 3]), PLAIN),
  );
  refused("a gradient of another shape", /shape is/, (trial) =>
    engine().convolutionBackwardInput(
      trial.tensor([1, 2, 3, 4]),
      trial.tensor([2, 3, 3, 3]),
      [1, 3, 4, 4],
      PLAIN,
    ),
  );
  refused("a kernel larger than the image", /does not fit/, (trial) =>
    engine().convolution(trial.tensor([1, 3, 4, 4]), trial.tensor([2, 3, 7, 7]), PLAIN),
  );
  refused("a norm for other channels", /shape is/, (trial) =>
    engine().batchNormTrain(
      { x: trial.tensor([4, 3]), weight: trial.tensor([2]), bias: trial.tensor([3]) },
      NORM,
    ),
  );
  refused("a residual of another shape", /shape is/, (trial) =>
    engine().batchNormTrain(
      { x: trial.tensor([4, 3]), weight: trial.tensor([3]), bias: trial.tensor([3]) },
      {
        ...NORM,
        residual: trial.tensor([3, 4]),
      },
    ),
  );
  refused("sums of different shapes", /shape is/, (trial) =>
    engine().add(trial.tensor([2, 3]), trial.tensor([3, 2])),
  );
  refused("half a pair of views", /whole pairs/, (trial) =>
    engine().contrastiveRows(trial.tensor([3, 4]), trial.tensor([6, 4]), {
      begin: 0,
      temperature: 1,
    }),
  );
  refused("a label that is no class", /labels lie in/, (trial) =>
    engine().softmaxCrossEntropy(trial.tensor([1, 3]), Int32Array.of(3), 1),
  );
  refused("a gradient of another size", /another size/, (trial) =>
    engine().update(trial.tensor([3]), trial.tensor([3]), new Float32Array(2), {
      lr: 1,
      momentum: 0,
      weightDecay: 0,
      nesterov: false,
      gradientScale: 1,
    }),
  );
});

/** Gives both ranks the moments and the sums of both. */
function reducerFor(all: readonly [Moments, Moments], other: Float32Array): BatchReducer {
  const count = all[0].count + all[1].count;
  const mean = all[0].mean.map(
    (m, c) => (m * all[0].count + all[1].mean[c]! * all[1].count) / count,
  );
  const variance = all[0].variance.map((_, c) =>
    all.reduce((sum, rank) => {
      const spread = rank.variance[c]! + (rank.mean[c]! - mean[c]!) ** 2;
      return sum + (spread * rank.count) / count;
    }, 0),
  );
  return {
    moments: () => ({ mean, variance, count }),
    sums: (sums) =>
      sums.forEach((_, k) => {
        sums[k]! += other[k]!;
      }),
  };
}

describeEngines("synchronised batch norm", (engine) => {
  it("makes two ranks with half the batch one rank with all of it", () => {
    engine().scope(() => {
      const trial = new Trial(engine());
      const [images, channels, pixels] = [6, 4, 25];
      const size = images * channels * pixels;
      const [x, dy] = [trial.values(size, { centre: 2 }), trial.values(size)];
      const [weight, bias] = [trial.tensor([channels]), trial.tensor([channels])];
      // Unequal shares: two images and four.
      const [shareA, shareB] = [
        [0, 2],
        [2, 6],
      ] as const;
      const part = (values: Float32Array, [begin, end]: readonly [number, number]): Tensor =>
        engine().upload(values.slice(begin * channels * pixels, end * channels * pixels), [
          end - begin,
          channels,
          5,
          5,
        ]);
      const train = (share: readonly [number, number], reducer?: BatchReducer): BatchNormTrained =>
        engine().batchNormTrain({ x: part(x, share), weight, bias }, NORM, reducer);

      const everything = [0, images] as const;
      const whole = train(everything);
      const expected = engine().batchNormBackward(part(dy, everything), whole.saved);

      const moments = [train(shareA).moments, train(shareB).moments] as const;
      const silent = reducerFor(moments, new Float32Array(2 * channels));
      const localSums = [shareA, shareB].map((share) => {
        const { saved } = train(share, silent);
        const own = engine().batchNormBackward(part(dy, share), saved, silent);
        return [own.dBias, own.dWeight].flatMap((t) => [...engine().download(t)]);
      });
      const [ys, dxs]: [number[], number[]] = [[], []];
      [shareA, shareB].forEach((share, rank) => {
        const reducer = reducerFor(moments, Float32Array.from(localSums[1 - rank]!));
        const { y, saved } = train(share, reducer);
        const { dx } = engine().batchNormBackward(part(dy, share), saved, reducer);
        ys.push(...engine().download(y));
        dxs.push(...engine().download(dx));
      });
      const summed = localSums[0]!.map((sum, k) => sum + localSums[1]![k]!);
      const wholeSums = [expected.dBias, expected.dWeight].flatMap((t) => [
        ...engine().download(t),
      ]);
      assert.ok(relativeError(ys, engine().download(whole.y)) < 2e-6);
      assert.ok(relativeError(dxs, engine().download(expected.dx)) < 5e-6);
      assert.ok(relativeError(summed, wholeSums) < 5e-6);
    });
  });

  it("takes the variance of values far from zero", () => {
    engine().scope(() => {
      const trial = new Trial(engine());
      const x = trial.tensor([64, 2], { centre: 1000, spread: 0.5 });
      const values = engine()
        .download(x)
        .filter((_, k) => k % 2 === 0);
      const mean = values.reduce((sum, v) => sum + v, 0) / 64;
      const variance = values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / 64;
      const { moments } = engine().batchNormTrain(
        { x, weight: trial.tensor([2]), bias: trial.tensor([2]) },
        NORM,
      );
      assert.ok(Math.abs(moments.variance[0]! / variance - 1) < 1e-3);
    });
  });
});

describeEngines("divergence", (engine) => {
  const hasNaN = (tensor: Tensor): boolean => engine().download(tensor).some(Number.isNaN);

  it("shows in everything that a NaN went into", () => {
    engine().scope(() => {
      const trial = new Trial(engine());
      const values = trial.values(4 * 6 * 5 * 5);
      values[7] = Number.NaN;
      const x = engine().upload(values, [4, 6, 5, 5]);
      const [scale, offset] = [trial.tensor([6]), trial.tensor([6])];
      const norm = {
        weight: scale,
        bias: offset,
        mean: offset,
        variance: engine().add(scale, scale),
      };
      for (const kernel of [1, 3]) {
        const weight = trial.tensor([8, 6, kernel, kernel]);
        const geometry = { stride: 1, padding: (kernel - 1) / 2 };
        const y = engine().convolution(x, weight, geometry);
        assert.ok(hasNaN(y));
        assert.ok(hasNaN(engine().convolutionBackwardWeight(x, y, weight.shape, geometry)));
        assert.ok(hasNaN(engine().convolutionBackwardInput(y, weight, x.shape, geometry)));
      }
      const trained = engine().batchNormTrain({ x, weight: scale, bias: offset }, NORM);
      assert.ok(hasNaN(trained.y));
      assert.ok(
        hasNaN(
          engine().batchNormTrain({ x, weight: scale, bias: offset }, { ...NORM, residual: x }).y,
        ),
      );
      assert.ok(hasNaN(engine().batchNormBackward(x, trained.saved).dx));
      const [same, place] = [trial.tensor([6, 6, 1, 1]), { stride: 1, padding: 0 }];
      assert.ok(hasNaN(engine().convolutionInference(x, same, place, norm, NORM)));
      assert.ok(hasNaN(engine().globalAveragePool(x)));
      const rows = engine().globalAveragePool(x);
      assert.ok(hasNaN(engine().linear(rows, trial.tensor([3, 6]))));
      const options = { begin: 0, temperature: 1 };
      assert.ok(engine().contrastiveRows(rows, rows, options).logSumExp_R.some(Number.isNaN));
      const labels = new Int32Array(4);
      assert.ok(Number.isNaN(engine().softmaxCrossEntropy(rows, labels, 1).lossSum));
    });
  });
});
