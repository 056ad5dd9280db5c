/** Compares the tensors that are there with those that a model asks for, by name and shape. */

/** All that matters here of a tensor. */
interface Shaped {
  readonly shape: readonly number[];
}

interface NamedShape extends Shaped {
  readonly name: string;
}

interface MisshapenTensor {
  readonly name: string;
  readonly found: readonly number[];
  readonly expected: readonly number[];
}

/** Names in the order of the model, those of `unexpected` in the order of the tensors. */
export interface TensorMatch {
  readonly matched: readonly string[];
  readonly missing: readonly string[];
  readonly unexpected: readonly string[];
  readonly misshapen: readonly MisshapenTensor[];
}

export function matchTensors(
  tensors: ReadonlyMap<string, Shaped>,
  specs: readonly NamedShape[],
): TensorMatch {
  const matched: string[] = [];
  const missing: string[] = [];
  const misshapen: MisshapenTensor[] = [];
  for (const { name, shape } of specs) {
    const found = tensors.get(name)?.shape;
    if (!found) missing.push(name);
    else if (found.join() === shape.join()) matched.push(name);
    else misshapen.push({ name, found, expected: shape });
  }
  const expected = new Set(specs.map(({ name }) => name));
  const unexpected = [...tensors.keys()].filter((name) => !expected.has(name));
  return { matched, missing, unexpected, misshapen };
}

/** Every complaint of a match in words: empty when all is there and nothing else. */
export function describeMismatch({ missing, misshapen, unexpected }: TensorMatch): string[] {
  return [
    ...missing.map((name) => `${name} is missing`),
    ...misshapen.map(
      ({ name, found, expected }) =>
        `${name} is [${found.join(", ")}], not [${expected.join(", ")}]`,
    ),
    ...unexpected.map((name) => `${name} is not part of the model`),
  ];
}

/** The first few of `items`, and how many more there are. */
export function listFirst(items: readonly string[], most = 5, separator = "; "): string {
  const more = items.length - most;
  return `${items.slice(0, most).join(separator)}${more > 0 ? `${separator}and ${more} more` : ""}`;
}
