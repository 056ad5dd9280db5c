/**
 * A norm and the one of a shortcut that is added to it. They have the same shape and get the same
 * gradient, so that a gang exchanges the statistics of both at once.
 */

import { concatenate } from "./concatenate.ts";
import type {
  BatchNormGradients,
  BatchNormTrained,
  BatchReducer,
  Moments,
  NormGradients,
} from "./engine.ts";

/** The first input, and the shortcut's if there is one. */
export function joined<Input>(
  input: Input,
  shortcut: Input | undefined,
): readonly [Input, ...Input[]] {
  return shortcut === undefined ? [input] : [input, shortcut];
}

/** The moments of the gang's batch for each input; the worker's own without a reducer. */
export function reduceMoments(
  own: readonly Moments[],
  reducer: BatchReducer | undefined,
): readonly Moments[] {
  if (!reducer) return own;
  const { mean, variance, count } = reducer.moments({
    mean: concatenate(own.map((moments) => moments.mean)),
    variance: concatenate(own.map((moments) => moments.variance)),
    count: own[0]!.count,
  });
  const channels = mean.length / own.length;
  return own.map((_, k) => {
    const [begin, end] = [k * channels, (k + 1) * channels];
    return { mean: mean.slice(begin, end), variance: variance.slice(begin, end), count };
  });
}

/**
 * Sums over the gang for each input: dy in the first half, dy xHat in the second. As dy is the same
 * for all of them, its sums travel once.
 *
 * @param own the worker's sums, which stay as they are
 */
export function reduceSums(
  own: readonly Float32Array[],
  reducer: BatchReducer | undefined,
): readonly Float32Array[] {
  if (!reducer) return own;
  const channels = own[0]!.length / 2;
  const packed = concatenate([
    own[0]!.subarray(0, channels),
    ...own.map((sums) => sums.subarray(channels)),
  ]);
  reducer.sums(packed);
  return own.map((_, k) =>
    concatenate([
      packed.subarray(0, channels),
      packed.subarray((k + 1) * channels, (k + 2) * channels),
    ]),
  );
}

/** The parts of a {@link BatchNormTrained} that there is one of for each input. */
export function trainedOf([moments, shortcutMoments]: readonly Moments[]): Pick<
  BatchNormTrained,
  "moments" | "shortcutMoments"
> {
  return { moments: moments!, ...(shortcutMoments && { shortcutMoments }) };
}

export function gradientsOf(
  [own, shortcut]: readonly NormGradients[],
  dResidual: BatchNormGradients["dResidual"],
): BatchNormGradients {
  return { ...own!, ...(shortcut && { shortcut }), ...(dResidual && { dResidual }) };
}
