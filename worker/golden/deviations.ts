/** How far a case's results are from their reference values, by quantity. */

export interface Deviation {
  readonly quantity: string;
  /** Relative to the quantity's scale, or in levels of 0..255 where the quantity says so. */
  readonly error: number;
  readonly tolerance: number;
  /** What rounding noise alone does to the quantity there, where it was measured. */
  readonly noise?: number;
  /** Where it was found, e.g. `step 1 neck.fc0.weight`. */
  readonly where: string;
}

export class Deviations {
  readonly #worst = new Map<string, Deviation>();

  /** Keeps the worst of each quantity: the one that uses most of its tolerance. */
  add(deviation: Deviation): void {
    const before = this.#worst.get(deviation.quantity);
    if (before && !(usedOf(deviation) > usedOf(before))) return;
    this.#worst.set(deviation.quantity, deviation);
  }

  list(): readonly Deviation[] {
    return [...this.#worst.values()];
  }
}

export function isWithin(deviation: Deviation): boolean {
  return usedOf(deviation) <= 1;
}

/** Share of the tolerance that is used up; infinite for an error that is no number. */
function usedOf({ error, tolerance }: Deviation): number {
  return Number.isNaN(error) ? Number.POSITIVE_INFINITY : error / tolerance;
}
