import assert from "node:assert/strict";
import fc from "fast-check";
import {
  addPoint,
  addToCurves,
  CURVE_LENGTH_MAX,
  type Curves,
  changeCurve,
  curveChange,
} from "../../coordinator/experiment/curves.ts";
import { progressOf } from "./experiments.ts";

interface Point {
  readonly step: number;
}

const draw = (steps: readonly number[], from: readonly Point[] = []): readonly Point[] =>
  steps.reduce<readonly Point[]>((curve, step) => addPoint(curve, { step }), from);
const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);
const stepsOf = (curve: readonly Point[]): number[] => curve.map(({ step }) => step);

describe("a curve", () => {
  it("keeps every point while there are few", () => {
    assert.deepEqual(stepsOf(draw([1, 5, 6, 20])), [1, 5, 6, 20]);
  });

  it("of any length has few points, evenly spaced, from the first report to the newest", () => {
    const curve = draw(upTo(20_000));
    assert.ok(curve.length <= CURVE_LENGTH_MAX && curve.length > CURVE_LENGTH_MAX / 3);
    assert.equal(curve[0]?.step, 1);
    assert.equal(curve.at(-1)?.step, 20_000);
    const gaps = curve.slice(1, -1).map(({ step }, index) => step - (curve[index]?.step ?? 0));
    assert.equal(new Set(gaps).size, 1, `gaps of ${[...new Set(gaps)]}`);
  });

  it("rises, ends with the newest point and is bounded, whatever is reported", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(5_000), { minLength: 1, maxLength: 2_000 }), (steps) => {
        const curve = stepsOf(draw(steps));
        assert.equal(curve.at(-1), steps.at(-1));
        assert.ok(curve.length <= CURVE_LENGTH_MAX);
        assert.ok(curve.every((step, index) => index === 0 || step > (curve[index - 1] ?? 0)));
      }),
    );
  });

  it("has steps that were taken again in place of those before", () => {
    const first = [{ step: 1 }, { step: 2 }, { step: 3 }];
    const again = { step: 2 };
    const curve = addPoint(first, again);
    assert.deepEqual(stepsOf(curve), [1, 2]);
    assert.equal(curve[1], again);
  });

  it("becomes another one by its change, which has no more than is new", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(300)), fc.array(fc.nat(300)), (steps, more) => {
        const before = draw(steps);
        const after = draw(more, before);
        const change = curveChange(before, after);
        assert.deepEqual(change ? changeCurve(before, change) : before, after);
      }),
    );
    const before = draw([1, 2, 3]);
    assert.deepEqual(curveChange(before, draw([4], before)), { keep: 3, points: [{ step: 4 }] });
    assert.equal(curveChange(before, before), undefined);
  });
});

describe("an experiment's curves", () => {
  const curvesOf = (...reports: readonly object[]): Curves =>
    reports.reduce<Curves>(
      (curves, report, index) =>
        addToCurves(curves, { ...progressOf("pretrain", index + 1), ...report }),
      {},
    );

  it("are of each stage apart", () => {
    const pretrain = curvesOf({ loss: 4, lr: 0.5, lossBound: 4.1 });
    const both = addToCurves(pretrain, progressOf("linear", 1));
    assert.deepEqual(both.pretrain, {
      training: [{ step: 1, loss: 4, lr: 0.5 }],
      quality: [],
      lossBound: 4.1,
    });
    assert.deepEqual(both.linear?.training, [{ step: 1, loss: 4.5, lr: 0.3 }]);
  });

  it("have an accuracy once, when it is told first", () => {
    const knn = [{ neighbours: 20, top1: 50, top5: 90 }];
    const judged = { knn, probeTop1: 40 };
    const later = { ...judged, probeTop1: 45 };
    const { pretrain } = curvesOf({}, judged, judged, judged, later);
    assert.deepEqual(pretrain?.quality, [
      { step: 2, knn: 50, probe: 40 },
      { step: 5, knn: 50, probe: 45 },
    ]);
    assert.equal(pretrain?.training.length, 5);
  });

  it("lose the accuracies of steps that are taken again", () => {
    const curves = curvesOf({}, { top1: 10 }, { top1: 20 });
    const again = addToCurves(curves, { ...progressOf("pretrain", 3), top1: 21 });
    assert.deepEqual(again.pretrain?.quality, [
      { step: 2, top1: 10 },
      { step: 3, top1: 21 },
    ]);
  });
});
