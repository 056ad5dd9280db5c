/** Which keys a schema knows, and which of them a mistyped one most likely meant. */

import { z } from "zod";

/** The part of JSON Schema that a recipe's schema uses. */
interface SchemaNode {
  readonly properties?: Readonly<Record<string, SchemaNode>>;
  readonly oneOf?: readonly SchemaNode[];
  readonly anyOf?: readonly SchemaNode[];
}

/** The dotted path of every key under `schema`, parents before children, in schema order. */
export function knownKeys(schema: z.ZodType): string[] {
  return [...new Set(keysUnder(z.toJSONSchema(schema, { io: "input" }) as SchemaNode, ""))];
}

function keysUnder(node: SchemaNode, parent: string): string[] {
  const own = Object.entries(node.properties ?? {}).flatMap(([key, child]) => [
    `${parent}${key}`,
    ...keysUnder(child, `${parent}${key}.`),
  ]);
  const alternatives = [...(node.oneOf ?? []), ...(node.anyOf ?? [])];
  return [...own, ...alternatives.flatMap((alternative) => keysUnder(alternative, parent))];
}

/**
 * The known key that `path` most likely stands for: one that ends in it (`lr` means
 * `pretrain.optimizer.lr`), or else the one with the fewest edits, if no more than half of the
 * letters have to change.
 */
export function nearestKey(path: string, known: readonly string[]): string | undefined {
  const longer = known.find((key) => key.endsWith(`.${path}`));
  if (longer !== undefined) return longer;

  let nearest: string | undefined;
  let fewest = Math.floor(path.length / 2) + 1;
  for (const key of known) {
    const edits = editDistance(path, key);
    if (edits < fewest) [nearest, fewest] = [key, edits];
  }
  return nearest;
}

/** Levenshtein distance: insertions, deletions and replacements that turn `a` into `b`. */
export function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let row = 1; row <= a.length; row++) {
    const current = [row];
    for (let column = 1; column <= b.length; column++) {
      const replaced = previous[column - 1]! + Number(a[row - 1] !== b[column - 1]);
      current.push(Math.min(previous[column]! + 1, current[column - 1]! + 1, replaced));
    }
    previous = current;
  }
  return previous[b.length]!;
}
