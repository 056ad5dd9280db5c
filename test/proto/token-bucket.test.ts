import assert from "node:assert/strict";
import { TokenBucket, TokenBuckets } from "../../proto/token-bucket.ts";

/** How often of `tries` it may happen at this time. */
const taken = (bucket: TokenBucket, tries: number, nowMs: number): number =>
  Array.from({ length: tries }).filter(() => bucket.take(nowMs)).length;

describe("a token bucket", () => {
  it("lets a burst through, and then its rate", () => {
    const bucket = new TokenBucket({ burst: 5, perSecond: 2 }, 1_000);
    assert.equal(taken(bucket, 9, 1_000), 5);
    assert.equal(taken(bucket, 9, 1_400), 0);
    assert.equal(taken(bucket, 9, 2_500), 3);
    assert.equal(taken(bucket, 99, 1_000_000), 5);
  });

  it("is not filled by a clock that goes back", () => {
    const bucket = new TokenBucket({ burst: 1, perSecond: 1 }, 5_000);
    assert.equal(taken(bucket, 2, 5_000), 1);
    assert.equal(taken(bucket, 2, 1_000), 0);
  });
});

describe("token buckets", () => {
  it("keep account of each key apart, and of so many only", () => {
    const buckets = new TokenBuckets({ burst: 1, perSecond: 1 }, 2);
    assert.deepEqual(
      ["a", "a", "b", "c"].map((key) => buckets.take(key, 0)),
      [true, false, true, false],
    );
    assert.equal(buckets.take("c", 1_000), true, "those that are full again are forgotten");
  });

  it("tell whether something may happen without counting it", () => {
    const buckets = new TokenBuckets({ burst: 1, perSecond: 1 }, 1);
    assert.deepEqual([buckets.has("a", 0), buckets.has("a", 0)], [true, true]);
    assert.equal(buckets.take("a", 0), true);
    assert.equal(buckets.has("a", 500), false);
    assert.equal(buckets.has("b", 500), false, "there is no account to keep of another one");
    assert.equal(buckets.has("a", 1_000), true);
  });
});
