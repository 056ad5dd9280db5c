/** YAML from outside: no key may stand twice, all of them are text, and aliases cannot explode. */

import { isNode, LineCounter, parseDocument } from "yaml";
import type { FleetError } from "./errors.ts";

export interface ReadYaml {
  /** `null` for a file without anything. */
  readonly content: unknown;
  /** Undefined when there is nothing at that path. */
  readonly lineOf: (path: readonly PropertyKey[]) => number | undefined;
}

/**
 * @param file name for error messages
 * @param invalid makes the error that is thrown for what is no YAML
 */
export function readYaml(
  text: string,
  file: string,
  invalid: (message: string, cause: unknown) => FleetError,
): ReadYaml {
  const lines = new LineCounter();
  const document = parseDocument(text, {
    lineCounter: lines,
    prettyErrors: false,
    uniqueKeys: true,
    stringKeys: true,
  });
  const lineAt = (offset: number): number => lines.linePos(offset).line;
  const [error] = document.errors;
  if (error) throw invalid(`${file}, line ${lineAt(error.pos[0])}: ${error.message}`, error);
  const lineOf: ReadYaml["lineOf"] = (path) => {
    const node: unknown = document.getIn(path, true);
    const offset = isNode(node) ? node.range?.[0] : undefined;
    return offset === undefined ? undefined : lineAt(offset);
  };
  try {
    // Aliases are expanded here, so this is where a file that explodes is refused.
    return { content: document.toJS(), lineOf };
  } catch (cause) {
    throw invalid(`${file}: ${cause instanceof Error ? cause.message : String(cause)}`, cause);
  }
}

export function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
