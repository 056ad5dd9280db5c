import assert from "node:assert/strict";
import {
  accuracyOf,
  confusionMatrix,
  formatConfusion,
  mostConfused,
  parseConfusion,
} from "../../../worker/look/confusion-matrix.ts";

describe("a confusion matrix", () => {
  const matrix = confusionMatrix("r", ["cat", "dog"], Int32Array.of(3, 1, 0, 2, 5, 2, 0, 0, 4));

  it("calls a class without a name by its number", () => {
    assert.deepEqual(matrix.classes, ["cat", "dog", "2"]);
    assert.deepEqual(matrix.counts[1], [2, 5, 2]);
  });

  it("tells the accuracy and the pairs that are confused most", () => {
    assert.deepEqual(accuracyOf(matrix), { images: 17, top1: (100 * 12) / 17 });
    assert.deepEqual(mostConfused(matrix), [
      { true: "dog", predicted: "cat", images: 2, percent: 22.22 },
      { true: "dog", predicted: "2", images: 2, percent: 22.22 },
      { true: "cat", predicted: "dog", images: 1, percent: 25 },
    ]);
  });

  it("is read from the file as it was written", () => {
    assert.deepEqual(parseConfusion(formatConfusion(matrix), "confusion.json"), matrix);
  });

  it("is refused when it is not square, or no JSON", () => {
    const wide = JSON.stringify({ recipe: "r", classes: ["a"], counts: [[1, 2]] });
    for (const [text, reason] of [
      ["{", /confusion\.json is not JSON/],
      [wide, /a row and a column for each of classes/],
      [JSON.stringify({ recipe: "r", classes: ["a"], counts: [[-1]] }), /counts\.0\.0/],
    ] as const) {
      assert.throws(() => parseConfusion(text, "confusion.json"), {
        code: "DATA_INVALID",
        message: reason,
      });
    }
  });
});
