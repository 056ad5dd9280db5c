import assert from "node:assert/strict";
import { checkEmbeddable, embedFeatures } from "../../../worker/look/embed-features.ts";
import { Prng } from "../../support/prng.ts";

/** Three groups of rows far from one another; row i is of group i mod 3. */
function groups(count: number, width: number): Float32Array[] {
  const random = new Prng(1);
  return Array.from({ length: count }, (_, i) =>
    Float32Array.from({ length: width }, (_, d) => (d % 3 === i % 3 ? 5 : 0) + random.next()),
  );
}

describe("t-SNE of features", function () {
  this.timeout(20_000);
  const options = { perplexity: 5, iterations: 300, seed: 3 };
  const nothing = () => {};

  for (const width of [9, 120]) {
    it(`puts images of ${width} features beside those that they are like`, () => {
      const rows = groups(60, width);
      const places = embedFeatures(rows, options, nothing);
      const nearest = places.map(([x, y], i) => {
        const distances = places.map(([a, b], j) =>
          i === j ? Infinity : (x - a) ** 2 + (y - b) ** 2,
        );
        return distances.indexOf(Math.min(...distances));
      });
      assert.ok(nearest.every((j, i) => j % 3 === i % 3));
    });
  }

  it("gives the same places for the same seed, and counts its iterations", () => {
    const rows = groups(60, 120);
    const counted: number[] = [];
    const short = { ...options, iterations: 30 };
    const places = embedFeatures(rows, short, (done) => counted.push(done));
    assert.deepEqual(embedFeatures(rows, short, nothing), places);
    assert.deepEqual([counted[0], counted.at(-1), counted.length], [1, 30, 30]);
    assert.notDeepEqual(embedFeatures(rows, { ...short, seed: 4 }, nothing), places);
  });

  it("refuses too few images, too many, and features that are not finite", () => {
    checkEmbeddable(91, 30);
    assert.throws(() => checkEmbeddable(90, 30), { code: "USAGE", message: /needs 91 images/ });
    assert.throws(() => checkEmbeddable(5_001, 30), { code: "USAGE", message: /at most 5000/ });
    const rows = groups(60, 9);
    rows[7]![2] = Number.NaN;
    assert.throws(() => embedFeatures(rows, options, nothing), { code: "DATA_INVALID" });
  });
});
