/** Which fault comes next: every kind in turn, in an order of chance, now and then two at once. */

import type { Prng } from "../support/prng.ts";
import { FAULTS, type FaultKind } from "./faults.ts";

/** @param together how often, 0 to 1, a fault does not come alone */
export function dealFaults(
  kinds: readonly FaultKind[],
  prng: Prng,
  together: number,
): () => readonly FaultKind[] {
  let deck: FaultKind[] = [];
  const draw = (): FaultKind => {
    if (deck.length === 0) deck = shuffled(kinds, prng);
    return deck.pop()!;
  };
  return () => {
    const first = draw();
    if (!prng.chance(together)) return [first];
    // Of the other sort: a worker, and what the gang does not need while it trains.
    const others = deck.filter((kind) => FAULTS[kind].breaksGang !== FAULTS[first].breaksGang);
    const second = others.at(-1);
    if (second === undefined) return [first];
    deck.splice(deck.indexOf(second), 1);
    return [first, second];
  };
}

function shuffled<Item>(items: readonly Item[], prng: Prng): Item[] {
  const result = [...items];
  for (let i = result.length - 1; i > 0; i--) {
    const j = prng.int(0, i);
    [result[i], result[j]] = [result[j]!, result[i]!];
  }
  return result;
}
