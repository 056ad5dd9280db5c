import assert from "node:assert/strict";
import { type ProcessGroup, soloGroup } from "../../../worker/collective/process-group.ts";
import { OnlineProbe } from "../../../worker/train/online-probe.ts";
import { Prng } from "../../support/prng.ts";
import { ReferenceEngine } from "../../support/reference-engine.ts";

const OPTIONS = {
  features: 6,
  classes: 3,
  recipe: { enabled: true, lr: 1, momentum: 0.9 },
};
const IMAGES = 32;
/** Per 256 images: 0.5 for a batch of 32. */
const LR = 4;

/** Two noisy views per image of features that show the class. */
function drawBatch(seed: number) {
  const prng = new Prng(seed);
  const labels = Int32Array.from({ length: IMAGES }, () => prng.int(0, 2));
  const features = Float32Array.from({ length: 2 * IMAGES * OPTIONS.features }, (_, at) => {
    const label = labels[Math.floor(at / (2 * OPTIONS.features))]!;
    return prng.next() + (at % OPTIONS.features === label ? 1 : 0);
  });
  return { features, labels };
}

describe("the online probe", () => {
  const engine = new ReferenceEngine();
  const open = (group: ProcessGroup = soloGroup) => new OnlineProbe(engine, group, OPTIONS);
  const step = (probe: OnlineProbe, seed: number, lr = LR) => {
    const { features, labels } = drawBatch(seed);
    engine.scope(() => {
      const rows = engine.upload(features, [2 * IMAGES, OPTIONS.features]);
      probe.backward(rows, labels, 1);
    });
    probe.finish();
    return probe.update(lr);
  };

  it("begins by telling nothing apart, and learns", () => {
    const probe = open();
    const first = step(probe, 0);
    assert.ok(Math.abs(first!.loss - Math.log(3)) < 1e-6);
    for (let seed = 1; seed < 60; seed++) step(probe, seed);
    const last = step(probe, 60);
    assert.ok(last!.loss < 0.3, `the loss is ${last!.loss}`);
    assert.ok(last!.top1 > 90 && last!.top1 <= 100, `${last!.top1} % of the views are right`);
  });

  it("takes the same step on two ranks with the same batch as on one", () => {
    const twins: ProcessGroup = {
      ...soloGroup,
      worldSize: 2,
      allReduce: (buffer) => ({ wait: () => buffer.set(buffer.map((value) => 2 * value)) }),
    };
    const [alone, twin] = [open(), open(twins)];
    // Twice the images at half the rate.
    for (let seed = 0; seed < 5; seed++) {
      assert.deepEqual(step(twin, seed, LR / 2), step(alone, seed));
    }
    assert.deepEqual(twin.exportState(), alone.exportState());
  });

  it("takes the same step on a batch in parts", () => {
    const [whole, inParts] = [open(), open()];
    for (let seed = 0; seed < 3; seed++) {
      const expected = step(whole, seed);
      const { features, labels } = drawBatch(seed);
      const parts = 4;
      for (let part = 0; part < parts; part++) {
        const [begin, end] = [part, part + 1].map((at) => (at * IMAGES) / parts);
        const own = features.slice(2 * begin! * OPTIONS.features, 2 * end! * OPTIONS.features);
        engine.scope(() => {
          const rows = engine.upload(own, [own.length / OPTIONS.features, OPTIONS.features]);
          inParts.backward(rows, labels.subarray(begin, end), parts);
        });
      }
      inParts.finish();
      const actual = inParts.update(LR);
      assert.equal(actual!.top1, expected!.top1);
      assert.ok(Math.abs(actual!.loss - expected!.loss) < 1e-6);
    }
  });

  it("goes on from its state as if it had never stopped", () => {
    const [whole, resumed] = [open(), open()];
    for (let seed = 0; seed < 3; seed++) step(whole, seed);
    const state = whole.exportState();
    // The reference engine computes in float64, and the state is float32.
    for (const probe of [whole, resumed]) probe.importState(state);
    assert.deepEqual(step(resumed, 3), step(whole, 3));
    assert.deepEqual(resumed.exportState(), whole.exportState());
  });

  it("refuses the state of other classes, and stays as it is", () => {
    const probe = open();
    step(probe, 0);
    const before = probe.exportState();
    const other = new OnlineProbe(engine, soloGroup, { ...OPTIONS, classes: 4 });
    assert.throws(() => probe.importState(other.exportState()), {
      code: "CHECKPOINT_INVALID",
      message: /fc\.weight is \[4, 6\], not \[3, 6\]/,
    });
    assert.deepEqual(probe.exportState(), before);
  });

  it("begins anew when its loss is no number any more", () => {
    const probe = open();
    step(probe, 0, 1e30);
    step(probe, 1, 1e38);
    const results = [2, 3, 4].map((seed) => step(probe, seed));
    assert.ok(results.includes(undefined), "it ran away");
    assert.ok(Number.isFinite(results.at(-1)?.loss), "it is back");
  });
});
