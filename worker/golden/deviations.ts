/** How far a case's results are from their reference values, by quantity. */

export interface Deviation {
  readonly quantity: string;
  /** Relative to the quantity's scale, or in levels of 0..255 where the quantity says so. */
  readonly error: number;
  readonly tolerance: number;
  /** Where the error is worst, e.g. `step 1 neck.fc0.weight`. */
  readonly where: string;
}

export class Deviations {
  readonly #worst = new Map<string, Deviation>();

  /** Keeps the worst of each quantity; an error that is no number is the worst there is. */
  add(quantity: string, error: number, tolerance: number, where: string): void {
    const before = this.#worst.get(quantity);
    if (before && (Number.isNaN(before.error) || error <= before.error)) return;
    this.#worst.set(quantity, { quantity, error, tolerance, where });
  }

  /** |actual - expected| / scale; two zeros agree at any scale. */
  addRelative(
    quantity: string,
    { actual, expected, scale }: Comparison,
    tolerance: number,
    where: string,
  ): void {
    const difference = Math.abs(actual - expected);
    this.add(quantity, difference === 0 ? 0 : difference / scale, tolerance, where);
  }

  list(): readonly Deviation[] {
    return [...this.#worst.values()];
  }
}

interface Comparison {
  readonly actual: number;
  readonly expected: number;
  readonly scale: number;
}

/** NaN exceeds every tolerance. */
export function isWithin({ error, tolerance }: Deviation): boolean {
  return error <= tolerance;
}
