/**
 * The worst relative error between two sets of a model case's values, for each quantity and step.
 */

import { FleetError } from "../../proto/errors.ts";
import type { ModelValues } from "./measure-model.ts";

export interface WorstError {
  readonly quantity: string;
  /** Relative; NaN when a value is no number. */
  readonly error: number;
  /** e.g. `step 1 neck.fc0.weight` */
  readonly where: string;
}

type StepValues = ModelValues["steps"][number];

/** Maps of norms, compared relative to the expected norm. */
const NORMS = ["gradNorm", "weightNormAfter", "runningMeanNorm", "runningVarNorm"] as const;

/**
 * Two calls for the same case give the same quantities in the same order.
 *
 * @param sizes elements of each parameter, by name
 * @throws {FleetError} DATA_INVALID when `actual` and `expected` do not have the same parts
 */
export function compareValues(
  actual: ModelValues,
  expected: ModelValues,
  sizes: ReadonlyMap<string, number>,
): readonly WorstError[] {
  const ofSteps = expected.steps.flatMap((values, step) =>
    compareStep(actual.steps[step]!, values, sizes).map(({ quantity, error, where }) => ({
      quantity,
      error,
      where: `step ${step} ${where}`.trimEnd(),
    })),
  );
  // In the alphabet's order, so that it is the same for any two sets of values.
  const ofTensors = [...expected.tensors.keys()]
    .sort()
    .map((name) => compareTensor(name, actual.tensors.get(name), expected.tensors.get(name)!));
  return [...ofSteps, ...ofTensors];
}

function compareStep(
  actual: StepValues,
  expected: StepValues,
  sizes: ReadonlyMap<string, number>,
): readonly WorstError[] {
  for (const quantity of [...NORMS, "gradHead"] as const) {
    checkNames(quantity, Object.keys(actual[quantity]), Object.keys(expected[quantity]));
  }
  const lossError = relative(actual.loss, expected.loss, Math.abs(expected.loss));
  return [
    { quantity: "loss", error: lossError, where: "" },
    ...NORMS.map((quantity) =>
      worstOf(quantity, Object.entries(expected[quantity]), (name, value) =>
        relative(actual[quantity][name]!, value, Math.abs(value)),
      ),
    ),
    worstOf("gradHead", Object.entries(expected.gradHead), (name, head) => {
      // A single value may be close to zero by chance: its yardstick is the tensor's usual value.
      const usual = expected.gradNorm[name]! / Math.sqrt(sizes.get(name)!);
      const scale = Math.max(usual, ...head.map(Math.abs));
      const own = actual.gradHead[name]!;
      return worstNumber(head.map((value, k) => relative(own[k] ?? Number.NaN, value, scale)));
    }),
  ];
}

/** Relative to the largest value of the tensor. */
function compareTensor(
  name: string,
  actual: ArrayLike<number> | undefined,
  expected: ArrayLike<number>,
): WorstError {
  if (actual?.length !== expected.length) {
    const found = actual ? `${actual.length} values` : "no such tensor";
    throw new FleetError(
      "DATA_INVALID",
      `the case has ${expected.length} values of ${name}, the model has ${found}`,
    );
  }
  let scale = 0;
  for (let k = 0; k < expected.length; k++) scale = Math.max(scale, Math.abs(expected[k]!));
  const indices = Array.from({ length: expected.length }, (_, k): [string, number] => [
    `[${k}]`,
    k,
  ]);
  return worstOf(name, indices, (_, k) => relative(actual[k]!, expected[k]!, scale));
}

function worstOf<T>(
  quantity: string,
  entries: readonly (readonly [string, T])[],
  errorOf: (name: string, value: T) => number,
): WorstError {
  let worst: WorstError = { quantity, error: 0, where: "" };
  for (const [where, value] of entries) {
    const error = errorOf(where, value);
    // Negated, so that NaN is worse than any number.
    if (!(error <= worst.error)) worst = { quantity, error, where };
    if (Number.isNaN(error)) break;
  }
  return worst;
}

function worstNumber(errors: readonly number[]): number {
  return errors.some(Number.isNaN) ? Number.NaN : Math.max(0, ...errors);
}

/** Zeros agree at any scale. */
function relative(actual: number, expected: number, scale: number): number {
  const difference = Math.abs(actual - expected);
  return difference === 0 ? 0 : difference / scale;
}

function checkNames(
  quantity: string,
  actual: readonly string[],
  expected: readonly string[],
): void {
  const known = new Set(actual);
  const stranger = expected.find((name) => !known.has(name));
  if (stranger !== undefined) {
    throw new FleetError(
      "DATA_INVALID",
      `${quantity} of ${stranger}: the model has no such tensor`,
    );
  }
  if (expected.length < actual.length) {
    const missing = actual.length - expected.length;
    throw new FleetError("DATA_INVALID", `the case lacks ${quantity} of ${missing} tensors`);
  }
}
