/** Runs the same operations on an engine and on the reference, and compares what they return. */

import assert from "node:assert/strict";
import type { Engine, Precision, Tensor } from "../../worker/engine/engine.ts";
import { Prng } from "./prng.ts";
import { ReferenceEngine } from "./reference-engine.ts";

/** An engine with inputs to try it on. Equal seeds give equal inputs on every engine. */
export class Trial {
  readonly engine: Engine;
  readonly #precision: Precision;
  readonly #prng = new Prng(11);

  /** @param precision that can hold every input without rounding */
  constructor(engine: Engine, precision: Precision = "f32") {
    this.engine = engine;
    this.#precision = precision;
  }

  /** Uniform in [centre - spread, centre + spread). */
  values(size: number, { centre = 0, spread = 1 } = {}): Float32Array {
    const value = (): number => centre + spread * (2 * this.#prng.next() - 1);
    const values = Float32Array.from({ length: size }, value);
    if (this.#precision === "f32") return values;
    const bits = new Uint32Array(values.buffer);
    for (let k = 0; k < size; k++) bits[k]! &= 0xffff0000;
    return values;
  }

  tensor(shape: readonly number[], range?: { centre?: number; spread?: number }): Tensor {
    const size = shape.reduce((product, axis) => product * axis, 1);
    return this.engine.upload(this.values(size, range), shape);
  }
}

type Result = Tensor | Float32Array | number;
export type Results = Readonly<Record<string, Result>>;

/**
 * Every result of `body` must agree with the reference's to `tolerance` times the largest magnitude
 * in it.
 */
export function agreesWithReference(
  engine: Engine,
  body: (trial: Trial) => Results,
  { tolerance = 1e-6, precision = "f32" as Precision } = {},
): void {
  const reference = new ReferenceEngine();
  const exact = (tensor: Tensor) => reference.downloadExact(tensor);
  const expected = collect(new Trial(reference, precision), body, exact);
  const actual = collect(new Trial(engine, precision), body, (tensor) => engine.download(tensor));
  assert.deepEqual(Object.keys(actual), Object.keys(expected));
  for (const [name, values] of Object.entries(expected)) {
    const { shape, data } = actual[name]!;
    assert.deepEqual(shape, values.shape, `shape of ${name}`);
    const error = relativeError(data, values.data);
    assert.ok(error <= tolerance, `${name} is wrong by ${error.toExponential(1)}`);
  }
}

/** Every result of `body`, as bits that can be compared with another run's. */
export function bitsOf(engine: Engine, body: (trial: Trial) => Results): Record<string, number[]> {
  const trial = new Trial(engine, "f32");
  const results = collect(trial, body, (tensor) => engine.download(tensor));
  return Object.fromEntries(
    Object.entries(results).map(([name, { data }]) => [
      name,
      [...new Uint32Array(Float32Array.from(data).buffer)],
    ]),
  );
}

interface Collected {
  readonly shape: readonly number[];
  readonly data: ArrayLike<number>;
}

function collect(
  trial: Trial,
  body: (trial: Trial) => Results,
  download: (tensor: Tensor) => ArrayLike<number>,
): Record<string, Collected> {
  return trial.engine.scope(() =>
    Object.fromEntries(
      Object.entries(body(trial)).map(([name, result]): [string, Collected] => {
        if (typeof result === "number") return [name, { shape: [], data: [result] }];
        if (result instanceof Float32Array) return [name, { shape: [result.length], data: result }];
        return [name, { shape: result.shape, data: download(result) }];
      }),
    ),
  );
}

/** Largest difference over the largest expected magnitude. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  assert.equal(actual.length, expected.length);
  let [difference, peak] = [0, 0];
  for (let k = 0; k < expected.length; k++) {
    // A NaN must not win the comparison with a number.
    const gap = Math.abs(actual[k]! - expected[k]!);
    difference = Number.isNaN(gap) ? Number.POSITIVE_INFINITY : Math.max(difference, gap);
    peak = Math.max(peak, Math.abs(expected[k]!));
  }
  return difference === 0 ? 0 : difference / peak;
}
