import assert from "node:assert/strict";
import { NeighbourLists } from "../../../worker/train/neighbour-lists.ts";
import { Prng } from "../../support/prng.ts";

const VOTE = { temperature: 0.07, classes: 3 };

/** Votes of the k best by a full sort: the rule in one line. */
function votesBySorting(similarities: readonly number[], labels: readonly number[], k: number) {
  const order = [...similarities.keys()].sort(
    (i, j) => similarities[j]! - similarities[i]! || i - j,
  );
  const votes = [0, 0, 0];
  for (const i of order.slice(0, k)) votes[labels[i]!]! += Math.exp(similarities[i]! / 0.07);
  return votes;
}

describe("NeighbourLists", () => {
  const prng = new Prng(3);
  // Few different values, so that many are equal.
  const similarities = Float32Array.from({ length: 300 }, () => prng.int(-8, 8) / 8);
  const labels = Array.from(similarities, () => prng.int(0, 2));

  for (const blockRows of [1, 7, 64, 300]) {
    it(`keep the same neighbours of a bank in blocks of ${blockRows}`, () => {
      const lists = new NeighbourLists(2, 40);
      for (let begin = 0; begin < similarities.length; begin += blockRows) {
        lists.offer(1, begin, similarities.subarray(begin, begin + blockRows));
      }
      for (const neighbours of [1, 20, 40]) {
        const votes = [...lists.votes(1, { ...VOTE, neighbours, labels })];
        assert.deepEqual(votes, votesBySorting([...similarities], labels, neighbours));
      }
      assert.deepEqual([...lists.votes(0, { ...VOTE, neighbours: 20, labels })], [0, 0, 0]);
    });
  }

  it("let all of a small bank vote", () => {
    const lists = new NeighbourLists(1, 200);
    lists.offer(0, 0, Float32Array.of(0.5, 1, Number.NaN));
    const votes = [...lists.votes(0, { ...VOTE, neighbours: 200, labels: [2, 0, 1] })];
    assert.deepEqual(votes, [Math.exp(1 / 0.07), 0, Math.exp(0.5 / 0.07)]);
  });
});
