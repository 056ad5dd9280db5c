/** What holds for a norm to which another one is added, on every engine. */

import assert from "node:assert/strict";
import type {
  BatchNormGradients,
  BatchReducer,
  Engine,
  Moments,
  NormGradients,
  NormInput,
  Tensor,
} from "../../../worker/engine/engine.ts";
import { Trial } from "../../support/compare-engines.ts";
import { describeEngines } from "../../support/engines.ts";

const EPS = 1e-5;

/** Stands for a second rank with the same data, and keeps the lengths of what it was asked. */
function twin(): BatchReducer & { readonly asked: string[] } {
  const asked: string[] = [];
  return {
    asked,
    moments(local) {
      asked.push(`moments of ${local.mean.length}`);
      return { ...local, count: 2 * local.count };
    },
    sums(sums) {
      asked.push(`${sums.length} sums`);
      for (let k = 0; k < sums.length; k++) sums[k]! *= 2;
    },
  };
}

function inputsOf(trial: Trial, shape: readonly number[]): readonly [NormInput, NormInput, Tensor] {
  const channels = [shape[1]!];
  const input = (centre: number): NormInput => ({
    x: trial.tensor(shape, { centre, spread: 2 }),
    weight: trial.tensor(channels, { centre: 1 }),
    bias: trial.tensor(channels),
  });
  return [input(3), input(-1), trial.tensor(shape)];
}

interface Outcome {
  readonly y: Tensor;
  readonly moments: readonly Moments[];
  readonly gradients: readonly NormGradients[];
}

function valuesOf(engine: Engine, { y, moments, gradients }: Outcome) {
  return {
    y: engine.download(y),
    moments,
    gradients: gradients.map(({ dx, dWeight, dBias }) =>
      [dx, dWeight, dBias].map((tensor) => engine.download(tensor)),
    ),
  };
}

describeEngines(
  "a norm with a shortcut",
  (engine) => {
    for (const shape of [
      [3, 24, 5, 3],
      [4, 3, 5, 7],
      [6, 13],
    ])
      for (const relu of [false, true])
        for (const isGang of [false, true]) {
          const title = `[${shape}]${relu ? ", ReLU" : ""}${isGang ? ", over two ranks" : ""}`;
          it(`is one norm after the other, bit for bit: ${title}`, () => {
            const reducer = isGang ? twin() : undefined;
            engine().scope(() => {
              const [own, shortcut, dy] = inputsOf(new Trial(engine()), shape);
              const options = { eps: EPS, relu };
              const added = engine().batchNormTrain(shortcut, { eps: EPS, relu: false }, reducer);
              const sum = { ...options, residual: added.y };
              const { y, saved, moments } = engine().batchNormTrain(own, sum, reducer);
              const last = engine().batchNormBackward(dy, saved, reducer);
              const first = engine().batchNormBackward(last.dResidual!, added.saved, reducer);
              const apart = { y, moments: [moments, added.moments], gradients: [last, first] };

              const both = engine().batchNormTrain(own, { ...options, shortcut }, reducer);
              const gradients = engine().batchNormBackward(dy, both.saved, reducer);
              assert.equal(gradients.dResidual, undefined);
              const together = {
                y: both.y,
                moments: [both.moments, both.shortcutMoments!],
                gradients: [gradients, gradients.shortcut!],
              };
              assert.deepEqual(valuesOf(engine(), together), valuesOf(engine(), apart));
            });
          });
        }

    it("asks the gang once for the statistics of both, and once for their sums", () => {
      engine().scope(() => {
        const [own, shortcut, dy] = inputsOf(new Trial(engine()), [4, 3, 5, 7]);
        const reducer = twin();
        const { saved } = engine().batchNormTrain(own, { eps: EPS, relu: true, shortcut }, reducer);
        engine().batchNormBackward(dy, saved, reducer);
        assert.deepEqual(reducer.asked, ["moments of 6", "9 sums"]);
      });
    });

    it("leaves the backward what it needs when the forward's tensors are released", () => {
      const backward = (isEager: boolean): BatchNormGradients => {
        const [own, shortcut, dy] = inputsOf(new Trial(engine()), [4, 3, 5, 7]);
        const options = { eps: EPS, relu: true, shortcut };
        const { y, saved } = engine().batchNormTrain(own, options);
        const inputs = [own, shortcut].flatMap(({ x, weight, bias }) => [x, weight, bias]);
        if (isEager) engine().release(y, ...inputs);
        const gradients = engine().batchNormBackward(dy, saved);
        engine().release(...saved.tensors);
        return gradients;
      };
      engine().scope(() => {
        const [eager, late] = [backward(true), backward(false)];
        const { dx, shortcut } = late;
        assert.deepEqual(engine().download(eager.dx), engine().download(dx));
        assert.deepEqual(engine().download(eager.shortcut!.dx), engine().download(shortcut!.dx));
      });
    });

    it("refuses a shortcut of another shape", () => {
      engine().scope(() => {
        const trial = new Trial(engine());
        const [own] = inputsOf(trial, [4, 3, 5, 7]);
        const [, shortcut] = inputsOf(trial, [4, 3, 7, 5]);
        const train = () => engine().batchNormTrain(own, { eps: EPS, relu: true, shortcut });
        assert.throws(train, /shape is/);
      });
    });
  },
  ["f32", "bf16"],
);
