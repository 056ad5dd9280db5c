/** What every engine has to compute, compared with the reference engine on the same inputs. */

import assert from "node:assert/strict";
import type {
  BatchReducer,
  Engine,
  Moments,
  NormInput,
  Precision,
  Tensor,
} from "../../../worker/engine/engine.ts";
import {
  agreesWithReference,
  bitsOf,
  type Results,
  type Trial,
} from "../../support/compare-engines.ts";
import { describeEngines } from "../../support/engines.ts";

/** Sums of thousands of float32 terms, added one by one. */
const SUM_TOLERANCE = 5e-6;

/** Half a unit in the last place of a result, and of the weights where they are rounded too. */
const BF16_TOLERANCE = 2 ** -8;

/** [images, inputs, height, width, outputs, kernel height and width, stride, padding] */
const CONVOLUTIONS: readonly (readonly [
  images: number,
  inputs: number,
  height: number,
  width: number,
  outputs: number,
  kernel: readonly [height: number, width: number],
  stride: number,
  padding: number,
])[] = [
  [2, 3, 6, 6, 4, [3, 3], 1, 1],
  [2, 3, 7, 5, 4, [3, 3], 1, 1],
  [2, 4, 8, 6, 6, [3, 3], 2, 1],
  [3, 4, 7, 9, 5, [3, 3], 2, 1],
  [2, 8, 5, 4, 6, [1, 1], 1, 0],
  [2, 8, 6, 4, 6, [1, 1], 2, 0],
  [2, 8, 5, 7, 6, [1, 1], 2, 0],
  [2, 3, 16, 14, 8, [7, 7], 2, 3],
  [1, 3, 13, 17, 4, [7, 7], 2, 3],
  [2, 3, 6, 7, 4, [3, 3], 1, 0],
  [2, 3, 8, 7, 4, [3, 3], 2, 0],
  [2, 3, 6, 7, 4, [3, 2], 1, 1],
  // More images than the patches are copied singly for.
  [40, 3, 5, 6, 4, [3, 3], 2, 1],
  // One pixel, as at the end of a small network.
  [4, 6, 1, 1, 5, [3, 3], 1, 1],
  // Channels that fill registers, and channels that do not.
  [2, 16, 9, 7, 32, [3, 3], 1, 1],
  [3, 32, 8, 6, 16, [3, 3], 2, 1],
  [2, 16, 7, 7, 64, [1, 1], 1, 0],
  [2, 32, 8, 8, 48, [1, 1], 2, 0],
  [2, 20, 6, 5, 28, [3, 3], 1, 1],
  [2, 3, 20, 18, 16, [7, 7], 2, 3],
  // From many channels to few.
  [2, 16, 6, 5, 4, [3, 3], 1, 1],
  [2, 32, 4, 4, 9, [1, 1], 1, 0],
  // A map smaller than the kernel.
  [4, 32, 2, 2, 32, [3, 3], 1, 1],
  // So much that the weight's gradient is summed in parts.
  [32, 16, 17, 16, 8, [3, 3], 1, 1],
];

function convolutions(shape: (typeof CONVOLUTIONS)[number]) {
  const [images, inputs, height, width, outputs, kernel, stride, padding] = shape;
  return (trial: Trial): Results => {
    const { engine } = trial;
    const geometry = { stride, padding };
    const x = trial.tensor([images, inputs, height, width]);
    const weight = trial.tensor([outputs, inputs, ...kernel]);
    const y = engine.convolution(x, weight, geometry);
    const dy = trial.tensor(y.shape);
    return {
      y,
      dx: engine.convolutionBackwardInput(dy, weight, x.shape, geometry),
      dWeight: engine.convolutionBackwardWeight(x, dy, weight.shape, geometry),
    };
  };
}

/** Another rank that contributed 10 values per channel. */
function secondRank(channels: number, inputs: number): BatchReducer {
  const other = { mean: 0.5, variance: 2, count: 10 };
  return {
    moments({ mean, variance, count }): Moments {
      const total = count + other.count;
      const merged = mean.map((m) => (m * count + other.mean * other.count) / total);
      return {
        mean: merged,
        variance: variance.map((v, c) => {
          const own = count * (v + (mean[c]! - merged[c]!) ** 2);
          return (own + other.count * (other.variance + (other.mean - merged[c]!) ** 2)) / total;
        }),
        count: total,
      };
    },
    sums(sums) {
      assert.equal(sums.length, (1 + inputs) * channels);
      for (let k = 0; k < sums.length; k++) sums[k]! += 0.25 * k - 1;
    },
  };
}

/** What is added to the normalised input. */
const ADDED = ["nothing", "residual", "shortcut"] as const;

interface NormCase {
  readonly shape: readonly number[];
  readonly relu: boolean;
  readonly added: (typeof ADDED)[number];
  readonly withReducer: boolean;
}

const NORM_CASES: readonly NormCase[] = [
  [4, 3, 5, 7],
  [3, 24, 5, 3],
  [16, 8],
  [6, 13],
].flatMap((shape) =>
  [false, true].flatMap((relu) =>
    ADDED.flatMap((added) =>
      [false, true].map((withReducer) => ({ shape, relu, added, withReducer })),
    ),
  ),
);

function batchNorm({ shape, relu, added, withReducer }: NormCase) {
  return (trial: Trial): Results => {
    const { engine } = trial;
    const channels = shape[1]!;
    const input = (centre: number): NormInput => ({
      x: trial.tensor(shape, { centre, spread: 2 }),
      weight: trial.tensor([channels], { centre: 1 }),
      bias: trial.tensor([channels]),
    });
    const own = input(3);
    const [residual, dy] = [trial.tensor(shape), trial.tensor(shape)];
    const options = {
      eps: 1e-5,
      relu,
      ...(added === "residual" && { residual }),
      ...(added === "shortcut" && { shortcut: input(-1) }),
    };
    const reducer = withReducer ? secondRank(channels, added === "shortcut" ? 2 : 1) : undefined;
    const { y, saved, moments, shortcutMoments } = engine.batchNormTrain(own, options, reducer);
    const { shortcut, ...gradients } = engine.batchNormBackward(dy, saved, reducer);
    return {
      y,
      ...moments,
      ...prefixed("shortcut", { ...shortcutMoments }),
      ...gradients,
      ...prefixed("shortcut", { ...shortcut }),
    };
  };
}

interface FrozenCase {
  /** [outputs, inputs, kernel height and width] */
  readonly weight: readonly [number, number, number, number];
  readonly stride: number;
  readonly relu: boolean;
  readonly withResidual: boolean;
}

const FROZEN_CASES: readonly FrozenCase[] = (
  [
    { weight: [5, 3, 3, 3], stride: 1 },
    { weight: [32, 16, 1, 1], stride: 1 },
    { weight: [16, 16, 3, 3], stride: 2 },
    { weight: [24, 32, 1, 1], stride: 2 },
  ] as const
).flatMap((convolution) =>
  [false, true].flatMap((relu) =>
    [false, true].map((withResidual) => ({ ...convolution, relu, withResidual })),
  ),
);

function frozen({ weight: weightShape, stride, relu, withResidual }: FrozenCase) {
  return (trial: Trial): Results => {
    const { engine } = trial;
    const [outputs, inputs, kernel] = weightShape;
    const geometry = { stride, padding: (kernel - 1) / 2 };
    const x = trial.tensor([2, inputs, 6, 8]);
    const weight = trial.tensor(weightShape);
    const norm = {
      weight: trial.tensor([outputs], { centre: 1 }),
      bias: trial.tensor([outputs]),
      mean: trial.tensor([outputs]),
      variance: trial.tensor([outputs], { centre: 2 }),
    };
    const residual = trial.tensor([2, outputs, 6 / stride, 8 / stride]);
    const options = { eps: 1e-5, relu, ...(withResidual && { residual }) };
    const run = (): Tensor => engine.convolutionInference(x, weight, geometry, norm, options);
    const results = { first: run(), again: run() };
    // Whatever an engine keeps must not outlive a change.
    engine.assign(norm.mean, trial.values(outputs));
    const afterNorm = run();
    engine.assign(weight, trial.values(outputs * inputs * kernel ** 2));
    return { ...results, afterNorm, afterWeight: run() };
  };
}

function contrastive(begin: number, rows: number) {
  return (trial: Trial): Results => {
    const { engine } = trial;
    const [rowsGlobal, width] = [24, 16];
    const options = { begin, temperature: 0.1 };
    const z = trial.values(rowsGlobal * width);
    for (let r = 0; r < rowsGlobal; r++) {
      const row = z.subarray(r * width, (r + 1) * width);
      const norm = Math.hypot(...row);
      row.forEach((value, d) => {
        row[d] = value / norm;
      });
    }
    const z_GD = engine.upload(z, [rowsGlobal, width]);
    const z_RD = engine.upload(z.slice(begin * width, (begin + rows) * width), [rows, width]);
    const all = engine.contrastiveRows(z_GD, z_GD, { ...options, begin: 0 });
    const own = engine.contrastiveRows(z_RD, z_GD, options);
    return {
      logSumExp: own.logSumExp_R,
      positive: own.positive_R,
      dz: engine.contrastiveGradient(own, z_GD, all.logSumExp_R, options),
    };
  };
}

const SGD = { lr: 0.3, momentum: 0.9, weightDecay: 1e-2, nesterov: false, gradientScale: 0.25 };
const LARS = { ...SGD, lars: { trustCoefficient: 0.001, eps: 1e-8 } };
const UPDATES = {
  SGD,
  "SGD with Nesterov momentum": { ...SGD, nesterov: true },
  LARS,
  "LARS without decay": { ...LARS, weightDecay: 0 },
} as const;

function updates(options: (typeof UPDATES)[keyof typeof UPDATES], shape: readonly number[]) {
  return (trial: Trial): Results => {
    const { engine } = trial;
    const size = shape.reduce((product, axis) => product * axis, 1);
    const [weight, velocity] = [trial.tensor(shape), trial.tensor(shape)];
    // A convolution in between, so that an engine may have moved the weight to its own layout.
    if (shape.length === 4) {
      const x = trial.tensor([1, shape[1]!, 4, 4]);
      engine.convolution(x, weight, { stride: 1, padding: 1 });
    }
    engine.update(weight, velocity, trial.values(size), options);
    engine.update(weight, velocity, trial.values(size), options);
    return { weight, velocity };
  };
}

function zeroNorms(trial: Trial): Results {
  const { engine } = trial;
  const zero = engine.upload(new Float32Array(6), [6]);
  const [velocity, weight, still] = [trial.tensor([6]), trial.tensor([6]), trial.tensor([6])];
  engine.update(zero, velocity, trial.values(6), LARS);
  engine.update(weight, still, new Float32Array(6), LARS);
  return { zero, velocity, weight, still };
}

function pools(shape: readonly number[]) {
  return (trial: Trial): Results => {
    const { engine } = trial;
    // Few distinct values: many windows have several maxima, and the first of them must win.
    const size = shape.reduce((product, axis) => product * axis, 1);
    const rough = trial.values(size, { spread: 3 }).map((value) => Math.max(0, Math.round(value)));
    const x = engine.upload(rough, shape);
    const { y, saved } = engine.maxPool(x);
    const average = engine.globalAveragePool(x);
    return {
      y,
      dx: engine.maxPoolBackward(trial.tensor(y.shape), saved),
      negative: engine.maxPool(trial.tensor(shape, { centre: -5 })).y,
      average,
      averageBack: engine.globalAveragePoolBackward(trial.tensor(average.shape), shape),
    };
  };
}

function linear(trial: Trial): Results {
  const { engine } = trial;
  const [x, weight, bias] = [trial.tensor([6, 10]), trial.tensor([7, 10]), trial.tensor([7])];
  const dy = trial.tensor([6, 7]);
  return {
    y: engine.linear(x, weight),
    withBias: engine.linear(x, weight, bias),
    dx: engine.linearBackwardInput(dy, weight),
    dWeight: engine.linearBackwardWeight(x, dy),
    dBias: engine.linearBackwardBias(dy),
  };
}

function crossEntropy(trial: Trial): Results {
  const logits = trial.tensor([5, 9], { spread: 20 });
  return { ...trial.engine.softmaxCrossEntropy(logits, Int32Array.of(3, 0, 8, 8, 1), 0.125) };
}

function images(trial: Trial): Results {
  const shape = [2, 3, 4, 5];
  const pixels = Uint8Array.from({ length: 120 }, (_, k) => (k * 37) % 256);
  const norm = { mean: [123.675, 116.28, 103.53], std: [58.395, 57.12, 57.375] };
  const x = trial.engine.uploadImages(pixels, shape, norm);
  return { x, sum: trial.engine.add(x, trial.tensor(shape)) };
}

function arithmetic(engine: () => Engine, precision: Precision): void {
  const agrees = (title: string, body: (trial: Trial) => Results, tolerance = 1e-6): void => {
    const ceiling = precision === "f32" ? tolerance : BF16_TOLERANCE;
    it(title, () => agreesWithReference(engine(), body, { tolerance: ceiling, precision }));
  };

  for (const shape of CONVOLUTIONS) {
    const [images, inputs, height, width, outputs, kernel, stride, padding] = shape;
    agrees(
      `convolves [${[images, inputs, height, width]}] into ${outputs} channels, ` +
        `kernel ${kernel.join("x")}, stride ${stride}, padding ${padding}, and back`,
      convolutions(shape),
      SUM_TOLERANCE,
    );
  }
  for (const norm of NORM_CASES) {
    // In bf16 the shortcut's norm is rounded before it is added, which may move a sum past zero.
    if (precision === "bf16" && norm.added === "shortcut" && norm.relu) continue;
    agrees(
      `normalises [${norm.shape}]${norm.added === "nothing" ? "" : ` + ${norm.added}`}` +
        `${norm.relu ? ", ReLU" : ""}${norm.withReducer ? ", over two ranks" : ""}, and back`,
      batchNorm(norm),
      SUM_TOLERANCE,
    );
  }
  for (const convolution of FROZEN_CASES)
    agrees(
      `convolves and normalises as in eval mode, [${convolution.weight}]` +
        `${convolution.stride > 1 ? " / 2" : ""}${convolution.withResidual ? " + residual" : ""}` +
        `${convolution.relu ? ", ReLU" : ""}`,
      frozen(convolution),
      SUM_TOLERANCE,
    );
  agrees("pools and averages even sizes, and back", pools([2, 3, 8, 6]));
  agrees("pools and averages odd sizes, and back", pools([2, 3, 9, 7]));
  agrees("pools and averages many channels, and back", pools([2, 16, 8, 6]));
  agrees("averages a single pixel", pools([2, 3, 1, 1]));
  agrees("has a linear layer, and back", linear);
  agrees("normalises images, and adds", images);
  agrees("computes NT-Xent rows and gradients of a whole gang", contrastive(0, 24));
  agrees("computes NT-Xent rows and gradients of one worker", contrastive(8, 6));
  agrees("computes softmax cross entropy", crossEntropy);
  for (const [title, options] of Object.entries(UPDATES)) {
    agrees(`updates a matrix by ${title}`, updates(options, [5, 7]));
    agrees(`updates a filter by ${title}`, updates(options, [5, 3, 3, 2]));
  }
  agrees("updates plainly where a norm is zero", zeroNorms);

  it("returns the same bits for the same input", () => {
    const everything = (trial: Trial): Results => ({
      ...convolutions(CONVOLUTIONS.at(-1)!)(trial),
      ...prefixed("norm", batchNorm(NORM_CASES.at(-1)!)(trial)),
      ...prefixed("ntxent", contrastive(8, 6)(trial)),
      ...prefixed("lars", updates(LARS, [16, 16, 3, 3])(trial)),
    });
    assert.deepEqual(bitsOf(engine(), everything), bitsOf(engine(), everything));
  });
}

describeEngines("arithmetic", arithmetic, ["f32", "bf16"]);

function prefixed(prefix: string, results: Results): Results {
  return Object.fromEntries(
    Object.entries(results).map(([name, result]) => [`${prefix}.${name}`, result]),
  );
}
