import assert from "node:assert/strict";
import { soloGroup } from "../../../worker/collective/process-group.ts";
import type { BatchReducer, Engine, Tensor } from "../../../worker/engine/engine.ts";
import { ntXent } from "../../../worker/loss/nt-xent.ts";
import { initialState } from "../../../worker/model/initial-state.ts";
import type { NormMoments } from "../../../worker/model/norm-moments.ts";
import { PretrainModel } from "../../../worker/model/pretrain-model.ts";
import { trainInParts } from "../../../worker/train/gradient-cache.ts";
import { PhaseClock } from "../../../worker/train/phase-clock.ts";
import { ReferenceEngine } from "../../support/reference-engine.ts";
import { randomFloats, tinyRecipe, withRandomNorms } from "../model/tiny-model.ts";

const SIZE = 8;
/** Of one part: two views of three images. */
const ROWS = 6;
const OPTIONS = { dim: tinyRecipe.neck.out, temperature: 0.2 };

interface Trained {
  readonly gradients: readonly Float64Array[];
  readonly embeddings: Float32Array;
  readonly statistics: readonly NormMoments[];
  /** Parts in the order in which their features came. */
  readonly order: readonly number[];
  readonly peakBytes: number;
}

/** Counts what is alive whenever the engine is asked for something. */
function watchMemory(engine: ReferenceEngine): { engine: ReferenceEngine; peak: () => number } {
  let bytes = 0;
  const watched = new Proxy(engine, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== "function") return value;
      return (...args: unknown[]): unknown => {
        const result: unknown = value.apply(target, args);
        bytes = Math.max(bytes, target.memory().bytes);
        return result;
      };
    },
  });
  return { engine: watched, peak: () => bytes };
}

function openModel(engine: Engine): PretrainModel {
  const state = withRandomNorms(initialState(tinyRecipe, "pretrain", 1));
  return new PretrainModel(engine, tinyRecipe, state);
}

function imagesOf(engine: Engine, part: number, rows: number): Tensor {
  const shape = [rows, 3, SIZE, SIZE];
  return engine.upload(randomFloats(10 + part, rows * 3 * SIZE * SIZE), shape);
}

function train(parts: number, rows = ROWS, reducer?: BatchReducer): Trained {
  const { engine, peak } = watchMemory(new ReferenceEngine());
  const model = openModel(engine);
  const gradients: Float64Array[] = [];
  const order: number[] = [];
  let embeddings = new Float32Array(0);
  const statistics = engine.scope(() =>
    trainInParts({
      engine,
      model,
      parts,
      reducer,
      upload: (part) => imagesOf(engine, part, rows),
      differentiate: (z_RD) => {
        embeddings = z_RD.slice();
        return ntXent(engine, soloGroup, z_RD, OPTIONS).dz_RD;
      },
      onFeatures: (features, part) => {
        assert.deepEqual(features.shape, [rows, model.features]);
        order.push(part);
      },
      onGradient: (index, gradient) => {
        const own = engine.downloadExact(gradient);
        const sum = gradients[index];
        gradients[index] = sum ? sum.map((value, k) => value + own[k]!) : own;
      },
      clock: new PhaseClock(),
    }),
  );
  const peakBytes = peak();
  model.close();
  assert.deepEqual(engine.memory(), { tensors: 0, bytes: 0 });
  return { gradients, embeddings, statistics, order, peakBytes };
}

/** As many models side by side as there are parts, each with all its activations. */
function trainAtOnce(parts: number): Pick<Trained, "gradients" | "embeddings"> {
  const engine = new ReferenceEngine();
  const each = Array.from({ length: parts }, (_, part) => {
    const model = openModel(engine);
    const { z } = model.forwardTrain(imagesOf(engine, part, ROWS));
    return { model, z_RD: engine.download(z), shape: z.shape };
  });
  const embeddings = Float32Array.from(each.flatMap(({ z_RD }) => [...z_RD]));
  const { dz_RD } = ntXent(engine, soloGroup, embeddings, OPTIONS);
  const gradients: Float64Array[] = [];
  for (const [part, { model, z_RD, shape }] of each.entries()) {
    const dz = dz_RD.slice(part * z_RD.length, (part + 1) * z_RD.length);
    model.backward(engine.upload(dz, shape), (index, gradient) => {
      const own = engine.downloadExact(gradient);
      const sum = gradients[index];
      gradients[index] = sum ? sum.map((value, k) => value + own[k]!) : own;
    });
  }
  engine.close();
  return { gradients, embeddings };
}

/** @param tolerance in units of each gradient's largest value */
function assertNear(
  actual: readonly Float64Array[],
  expected: readonly Float64Array[],
  tolerance: number,
): void {
  assert.equal(actual.length, expected.length);
  for (const [index, gradient] of expected.entries()) {
    const limit = tolerance * Math.max(...gradient.map(Math.abs));
    for (const [k, value] of gradient.entries()) {
      const error = Math.abs(actual[index]![k]! - value);
      assert.ok(error <= limit, `gradient ${index}[${k}] is off by ${error}`);
    }
  }
}

describe("a batch trained in parts", () => {
  it("has the gradient of all parts at once", () => {
    const parts = 4;
    const [cached, atOnce] = [train(parts), trainAtOnce(parts)];
    assert.deepEqual(cached.embeddings, atOnce.embeddings);
    assertNear(cached.gradients, atOnce.gradients, 1e-12);
  });

  it("has the bits of a plain step when it is one part", () => {
    const [cached, plain] = [train(1), trainAtOnce(1)];
    assert.deepEqual(cached.gradients, plain.gradients);
    assert.deepEqual(cached.embeddings, plain.embeddings);
  });

  it("keeps the last part's activations, and has the statistics of each", () => {
    const { order, statistics } = train(3);
    assert.deepEqual(order, [2, 0, 1]);
    const means = statistics.map((norms) => norms.get("neck.bn0")!.mean[0]!);
    assert.equal(new Set(means).size, 3);
    assert.deepEqual(statistics[0], train(1).statistics[0]);
  });

  it("takes little more memory than a single part", () => {
    const [one, four, whole] = [train(1), train(4), train(1, 4 * ROWS)];
    assert.ok(four.peakBytes < 1.1 * one.peakBytes, `${four.peakBytes}, one ${one.peakBytes}`);
    assert.ok(whole.peakBytes > 2 * one.peakBytes, `${whole.peakBytes}, one ${one.peakBytes}`);
  });

  it("exchanges the statistics of a part once, and its sums once", () => {
    const calls = { moments: 0, sums: 0 };
    const reducer: BatchReducer = {
      moments: (local) => {
        calls.moments += 1;
        return local;
      },
      sums: () => {
        calls.sums += 1;
      },
    };
    // Moments that cross a reducer are float32.
    assertNear(train(3, ROWS, reducer).gradients, train(3).gradients, 1e-4);
    const once = calls.moments / 3;
    assert.ok(Number.isInteger(once) && once > 0);
    assert.deepEqual(calls, { moments: 3 * once, sums: 3 * once });
  });
});
