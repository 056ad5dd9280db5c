import assert from "node:assert/strict";
import { type BoundState, lossBound, watchBound } from "../../../worker/loss/bound-watch.ts";
import { Prng } from "../../support/prng.ts";

const SETTING = { images: 256, temperature: 0.5, stepsPerEpoch: 50 };
const BOUND = lossBound(SETTING.images);

/** The steps after which the loss begins to sit at its bound, and those after which it has left. */
function turns(losses: readonly number[], setting = SETTING): number[] {
  let state: BoundState | undefined;
  const found: number[] = [];
  for (const [index, loss] of losses.entries()) {
    const wasReached = state?.isReached ?? false;
    state = watchBound(state, { ...setting, loss, step: index + 1 });
    if (state?.isReached !== wasReached) found.push(index + 1);
  }
  return found;
}

const steps = (count: number, lossAt: (step: number) => number): number[] =>
  Array.from({ length: count }, (_, index) => lossAt(index + 1));

describe("the bound of the loss", () => {
  it("is ln(2N - 1)", () => {
    assert.ok(Math.abs(BOUND - Math.log(511)) < 1e-12);
  });

  it("is reached by collapsed embeddings once the run has had time to settle", () => {
    assert.deepEqual(turns(steps(400, () => BOUND - 1e-4)), [200]);
  });

  it("is not judged before the first epoch is over", () => {
    assert.deepEqual(
      turns(
        steps(400, () => BOUND),
        { ...SETTING, stepsPerEpoch: 300 },
      ),
      [300],
    );
  });

  it("is reached by a loss above it, as of a broken gather", () => {
    assert.deepEqual(turns(steps(300, () => BOUND + 0.4)), [200]);
  });

  it("is not reached by a run that learns slowly, in the midst of noise", () => {
    const prng = new Prng(5);
    const slow = (step: number): number => BOUND - 0.2 - step / 4000 + 0.2 * (prng.next() - 0.5);
    assert.deepEqual(turns(steps(2000, slow)), []);
  });

  it("is reached in the middle of a run, and left once, not again and again", () => {
    const prng = new Prng(6);
    const noise = (): number => 0.04 * (prng.next() - 0.5);
    const loss = (step: number): number => {
      if (step <= 500) return BOUND - 1;
      if (step <= 1000) return BOUND - 0.01 + noise();
      return BOUND - (0.3 * (step - 1000)) / 1000 + noise();
    };
    const [reached, left, ...more] = turns(steps(2000, loss));
    assert.deepEqual(more, []);
    assert.ok(reached! > 500 && reached! < 700, `reached after step ${reached}`);
    assert.ok(left! > 1100 && left! < 1700, `left after step ${left}`);
  });

  it("has the same verdict after an interruption", () => {
    const losses = steps(600, (step) => BOUND - 0.15 + 0.14 * Math.sin(step / 60));
    let whole: BoundState | undefined;
    let resumed: BoundState | undefined;
    for (const [index, loss] of losses.entries()) {
      whole = watchBound(whole, { ...SETTING, loss, step: index + 1 });
      resumed = watchBound(resumed && { ...resumed }, { ...SETTING, loss, step: index + 1 });
      resumed = resumed && (JSON.parse(JSON.stringify(resumed)) as BoundState);
    }
    assert.deepEqual(resumed, whole);
  });

  it("does not exist for a batch of one image", () => {
    const state = { share: 0.5, isReached: false };
    assert.equal(watchBound(state, { ...SETTING, images: 1, loss: 0, step: 300 }), state);
  });
});
