/** Which classes a classifier took for which, as confusion.json holds it. Pure. */

import { z } from "zod";
import { FleetError } from "../../proto/errors.ts";

const count = z.int().nonnegative();

const matrixSchema = z
  .object({
    recipe: z.string(),
    classes: z.array(z.string()).min(1),
    counts: z.array(z.array(count)),
  })
  .refine(
    ({ classes, counts }) =>
      counts.length === classes.length && counts.every((row) => row.length === classes.length),
    { error: "counts must have a row and a column for each of classes" },
  );

export interface ConfusionMatrix {
  readonly recipe: string;
  /** Name of each class. */
  readonly classes: readonly string[];
  /** Images by true class, then by predicted class. */
  readonly counts: readonly (readonly number[])[];
}

/** Images of one class that were taken for another. */
export interface ConfusedPair {
  readonly true: string;
  readonly predicted: string;
  readonly images: number;
  /** Percent of the true class. */
  readonly percent: number;
}

/** Pairs that confusion.json names. */
const PAIRS_MAX = 20;

/** @param flat counts, row by row; classes without a name are called by their number */
export function confusionMatrix(
  recipe: string,
  names: readonly string[],
  flat: Int32Array,
): ConfusionMatrix {
  const size = Math.round(Math.sqrt(flat.length));
  const numbers = Array.from({ length: size }, (_, k) => k);
  return {
    recipe,
    classes: numbers.map((k) => names[k] ?? String(k)),
    counts: numbers.map((k) => [...flat.subarray(k * size, (k + 1) * size)]),
  };
}

/** Images, and percent of them whose class was found. */
export function accuracyOf({ counts }: ConfusionMatrix): { images: number; top1: number } {
  const images = counts.reduce((sum, row) => sum + total(row), 0);
  const right = counts.reduce((sum, row, k) => sum + (row[k] ?? 0), 0);
  return { images, top1: images === 0 ? 0 : (100 * right) / images };
}

/** The pairs with most images, those of smaller classes first where images are as many. */
export function mostConfused({ classes, counts }: ConfusionMatrix): readonly ConfusedPair[] {
  const pairs = counts.flatMap((row, k) => {
    const all = total(row);
    return row.flatMap((images, j) =>
      j === k || images === 0 ? [] : [{ k, j, images, percent: (100 * images) / all }],
    );
  });
  return pairs
    .sort((a, b) => b.images - a.images || b.percent - a.percent || a.k - b.k || a.j - b.j)
    .slice(0, PAIRS_MAX)
    .map(({ k, j, images, percent }) => ({
      true: classes[k]!,
      predicted: classes[j]!,
      images,
      percent: Number(percent.toFixed(2)),
    }));
}

/** The text of confusion.json, a line per class. */
export function formatConfusion(matrix: ConfusionMatrix): string {
  const { images, top1 } = accuracyOf(matrix);
  const rows = matrix.counts.map((row) => `    ${JSON.stringify(row)}`);
  const pairs = mostConfused(matrix).map((pair) => `    ${JSON.stringify(pair)}`);
  return `{
  "recipe": ${JSON.stringify(matrix.recipe)},
  "validation_images": ${images},
  "top1": ${Number(top1.toFixed(4))},
  "most_confused": [
${pairs.join(",\n")}
  ],
  "classes": ${JSON.stringify(matrix.classes)},
  "counts": [
${rows.join(",\n")}
  ]
}
`;
}

/** @throws {FleetError} DATA_INVALID naming the file and what is wrong with it */
export function parseConfusion(text: string, file: string): ConfusionMatrix {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    const reason = FleetError.from(cause).message;
    throw new FleetError("DATA_INVALID", `${file} is not JSON: ${reason}`, {}, cause);
  }
  const parsed = matrixSchema.safeParse(json);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const where = issue?.path.join(".") ?? "";
  const problem = `${where === "" ? "" : `${where}: `}${issue?.message}`;
  throw new FleetError("DATA_INVALID", `${file} is no confusion matrix: ${problem}`);
}

export function total(row: readonly number[]): number {
  return row.reduce((sum, images) => sum + images, 0);
}
