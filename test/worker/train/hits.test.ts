import assert from "node:assert/strict";
import { countHits } from "../../../worker/train/hits.ts";

describe("countHits", () => {
  const count = (logits: number[][], labels: number[]) => {
    const hits = { images: 0, top1: 0, top5: 0 };
    const classes = logits[0]!.length;
    countHits(Float32Array.from(logits.flat()), Int32Array.from(labels), classes, hits);
    return hits;
  };

  it("counts the largest logit as top-1 and the five largest as top-5", () => {
    const logits = [9, 8, 7, 6, 5, 4];
    assert.deepEqual(count([logits], [0]), { images: 1, top1: 1, top5: 1 });
    assert.deepEqual(count([logits], [4]), { images: 1, top1: 0, top5: 1 });
    assert.deepEqual(count([logits], [5]), { images: 1, top1: 0, top5: 0 });
  });

  it("leaves out images that could not be read", () => {
    assert.deepEqual(
      count(
        [
          [1, 0],
          [1, 0],
        ],
        [-1, 0],
      ),
      { images: 1, top1: 1, top5: 1 },
    );
  });

  it("gives ties to the lower class, so that constant logits are at chance", () => {
    assert.equal(
      count(
        [
          [1, 1],
          [1, 1],
        ],
        [0, 1],
      ).top1,
      1,
    );
  });

  it("counts NaN as wrong", () => {
    const broken = [Number.NaN, Number.NaN];
    assert.deepEqual(count([broken], [0]), { images: 1, top1: 0, top5: 0 });
  });
});
