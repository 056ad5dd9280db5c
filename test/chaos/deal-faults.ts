/** Which fault comes next: every kind in turn, in an order of chance, now and then two at once. */

import type { Prng } from "../support/prng.ts";
import { FAULTS, type FaultKind } from "./faults.ts";

interface Dealer {
  readonly next: () => readonly FaultKind[];
  /** Kinds that come again soon. */
  readonly putBack: (kinds: readonly FaultKind[]) => void;
}

/** @param together how often, 0 to 1, a fault does not come alone */
export function dealFaults(kinds: readonly FaultKind[], prng: Prng, together: number): Dealer {
  let deck: FaultKind[] = [];
  const draw = (): FaultKind => {
    if (deck.length === 0) deck = shuffled(kinds, prng);
    return deck.pop()!;
  };
  const next = (): readonly FaultKind[] => {
    const first = draw();
    if (!prng.chance(together)) return [first];
    // Of the other sort: a worker, and what the gang does not need while it trains.
    const others = deck.filter((kind) => FAULTS[kind].breaksGang !== FAULTS[first].breaksGang);
    const second = others.at(-1);
    if (second === undefined) return [first];
    deck.splice(deck.indexOf(second), 1);
    return [first, second];
  };
  return { next, putBack: (unfelt) => deck.push(...unfelt) };
}

function shuffled<Item>(items: readonly Item[], prng: Prng): Item[] {
  const result = [...items];
  for (let i = result.length - 1; i > 0; i--) {
    const j = prng.int(0, i);
    [result[i], result[j]] = [result[j]!, result[i]!];
  }
  return result;
}
