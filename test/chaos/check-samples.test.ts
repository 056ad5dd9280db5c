import assert from "node:assert/strict";
import { epochIndices } from "../../worker/data/sampler.ts";
import type { SampleLine } from "../../worker/train/sample-log.ts";
import { checkSamples } from "./check-samples.ts";

/** 13 images on 4 ranks: 4 each, with padding, in steps of 3 and 1. */
const TASK = { count: 13, seed: 7, epochs: 2, ranks: 4, batchPerWorker: 3 };
const STEPS = 4;

/** What `workers` workers write down for some steps; each holds `4 / workers` ranks. */
function lines(generation: number, first: number, last: number, workers = 4): SampleLine[] {
  const held = TASK.ranks / workers;
  return range(first, last).flatMap((step) =>
    range(0, workers - 1).map((rank) => {
      const epoch = Math.floor((step - 1) / 2);
      const images = range(rank * held, rank * held + held - 1).flatMap((each) => {
        const place = { rank: each, ranks: 1, worldSize: TASK.ranks };
        const share = epochIndices({ ...TASK, ...place, epoch });
        return [...((step - 1) % 2 === 0 ? share.slice(0, 3) : share.slice(3))];
      });
      return { generation, step, rank, epoch, images };
    }),
  );
}

function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

describe("check of samples", () => {
  it("finds nothing wrong with a run that was left in peace", () => {
    assert.deepEqual(checkSamples(lines(1, 1, STEPS), TASK), { problems: [], stepsLost: [] });
  });

  it("counts the steps that a later gang did again", () => {
    const again = [...lines(2, 1, 3), ...lines(5, 4, 4), ...lines(9, 2, 4)];
    assert.deepEqual(checkSamples(again, TASK), { problems: [], stepsLost: [0, 3] });
  });

  it("takes a gang of fewer workers for the same ranks", () => {
    const mixed = [...lines(1, 1, 2), ...lines(2, 3, 3, 2), ...lines(3, 4, 4, 1)];
    assert.deepEqual(checkSamples(mixed, TASK), { problems: [], stepsLost: [0, 0] });
  });

  it("forgives a rank that was killed before it wrote down the last step of its gang", () => {
    const killed = [...lines(1, 1, 2).slice(0, -1), ...lines(2, 3, 4)];
    assert.deepEqual(checkSamples(killed, TASK).problems, []);
  });

  const whole = lines(1, 1, STEPS);
  const wrongs: Readonly<Record<string, [SampleLine[], RegExp]>> = {
    "a step that a rank has not done": [
      whole.filter(({ step, rank }) => step !== 2 || rank !== 1),
      /step 2: 3 of 4 ranks/,
    ],
    "a step that nobody has done": [whole.filter(({ step }) => step !== 2), /step 2: 0 of 4 ranks/],
    "a last step that is not there": [lines(1, 1, 3), /step 4: 0 of 4 ranks/],
    "other images in the second go": [
      [...whole, { ...whole[0]!, generation: 2, images: [...whole[0]!.images].reverse() }],
      /generation 2, step 1, rank 0/,
    ],
    "an image that is missing": [
      [{ ...whole[0]!, images: whole[0]!.images.slice(1) }, ...whole.slice(1)],
      /generation 1, step 1, rank 0/,
    ],
    "the wrong epoch": [
      [{ ...whole[0]!, epoch: 1 }, ...whole.slice(1)],
      /generation 1, step 1, rank 0/,
    ],
    "a gang that begins too late": [
      [...lines(1, 1, 1), ...lines(2, 3, 4)],
      /generation 2 leaves out 1 steps/,
    ],
  };
  for (const [what, [wrong, message]] of Object.entries(wrongs)) {
    it(`finds ${what}`, () => {
      const { problems } = checkSamples(wrong, TASK);
      assert.ok(
        problems.some((problem) => message.test(problem)),
        problems.join("\n"),
      );
    });
  }
});
