/**
 * A few training steps of the whole model, compared with PyTorch's in float64.
 *
 * An engine in float32, let alone in bfloat16, cannot follow float64 exactly. Of millions of ReLUs
 * a few sit so close to zero that rounding decides which side they are on; each such flip moves
 * gradients by about a thousandth, and the steps after it amplify that. How much depends on the
 * case, so it is measured: the case runs again on inputs with noise of the size of the precision's
 * rounding. A deviation passes when it is small, or not much larger than what such noise does to
 * the same quantity in the same step.
 */

import type { Engine, Precision } from "../engine/engine.ts";
import { compareValues } from "./compare-values.ts";
import type { Deviations } from "./deviations.ts";
import { type GoldenTensors, type ModelCase, requireTensor } from "./golden-folder.ts";
import { type ModelValues, measureModel } from "./measure-model.ts";

const TOLERANCE: Readonly<Record<Precision, number>> = { f32: 1e-4, bf16: 5e-3 };
/** Relative to each input value; moves features by about what the precision's rounding does. */
const NOISE: Readonly<Record<Precision, number>> = { f32: 2 ** -20, bf16: 2 ** -8 };
/** How much further than under noise a value may be off: single flips differ in what they move. */
const NOISE_FACTOR = 4;
/** One run with noise may by chance leave a value in its place; several hardly do. */
const NOISY_RUNS_MAX = 6;

export interface EngineUnderTest {
  readonly engine: Engine;
  readonly precision: Precision;
}

/** @throws {FleetError} DATA_INVALID when the case does not fit the model that it names */
export function runModelCase(
  { engine, precision }: EngineUnderTest,
  spec: ModelCase,
  tensors: GoldenTensors,
  deviations: Deviations,
): void {
  const embeddingDim = requireTensor(tensors, "embeddings").shape[1]!;
  const golden: ModelValues = {
    steps: spec.steps,
    tensors: new Map([...tensors.keys()].map((name) => [name, requireTensor(tensors, name).data])),
  };
  const actual = measureModel(engine, spec, { embeddingDim });
  const { sizes } = actual;
  const errors = compareValues(actual, golden, sizes);
  const comparable = [...actual.tensors].filter(([name]) => golden.tensors.has(name));
  const baseline = { ...actual, tensors: new Map(comparable) };

  const noise = errors.map(() => 0);
  const toleranceOf = (k: number): number =>
    Math.max(TOLERANCE[precision], NOISE_FACTOR * noise[k]!);
  const isExceeded = (): boolean => errors.some(({ error }, k) => !(error <= toleranceOf(k)));
  for (let run = 1; run <= NOISY_RUNS_MAX && isExceeded(); run++) {
    const noisy = measureModel(engine, spec, {
      embeddingDim,
      noise: { amount: NOISE[precision], run },
    });
    for (const [k, { error }] of compareValues(noisy, baseline, sizes).entries()) {
      noise[k] = Math.max(noise[k]!, error);
    }
  }
  for (const [k, { quantity, error, where }] of errors.entries()) {
    const tolerance = toleranceOf(k);
    const measured = tolerance > TOLERANCE[precision] ? { noise: noise[k]! } : {};
    deviations.add({ quantity, error, tolerance, where, ...measured });
  }
}
