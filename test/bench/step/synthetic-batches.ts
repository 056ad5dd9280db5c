/** Batches that cost nothing: the bench measures steps, not the loading of images. */

import type { BatchReader } from "../../../worker/data/batch-reader.ts";
import { Prng } from "../../support/prng.ts";
import { type StepSpec, stepsRun } from "./step-spec.ts";

const VIEWS = 2;

/**
 * Serves one batch of random pixels over and over, until the bench has all its steps.
 *
 * @param onStep hears the number of each step before its batch is handed out, from 0
 */
export function syntheticBatches(
  spec: StepSpec,
  rank: number,
  onStep: (step: number) => void,
): BatchReader {
  const { batch: count, size } = spec;
  const prng = new Prng(rank);
  const pixels = new Uint8Array(new SharedArrayBuffer(count * VIEWS * 3 * size ** 2));
  for (let i = 0; i < pixels.length; i++) pixels[i] = prng.int(0, 255);
  const labels = new Int32Array(new SharedArrayBuffer(count * 4)).fill(-1);
  const indices = new Int32Array(new SharedArrayBuffer(count * 4));
  indices.set([...indices.keys()]);
  let step = 0;
  return {
    next() {
      if (step === stepsRun(spec)) return undefined;
      onStep(step);
      const place = { step, epoch: 0, isLastOfEpoch: false };
      return { pixels, labels, indices, count, views: VIEWS, ...place };
    },
    done() {
      step++;
    },
  };
}
