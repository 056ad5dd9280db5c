import assert from "node:assert/strict";
import { PeerQuota } from "../../proto/peer-quota.ts";

describe("a quota of peers", () => {
  it("bounds what one address holds, and what all do", () => {
    const quota = new PeerQuota({ perPeer: 2, total: 3 });
    const places = ["a", "a", "a", "b", "b"].map((address) => quota.take(address));
    assert.deepEqual(
      places.map((place) => place !== undefined),
      [true, true, false, true, false],
    );
    places[0]?.();
    places[0]?.();
    assert.ok(quota.take("b"));
    assert.equal(quota.take("a"), undefined, "a place is returned once only");
  });
});
