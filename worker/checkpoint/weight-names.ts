/**
 * From the names that PyTorch programs give a ResNet's tensors to ours, which are mmpretrain's:
 * `backbone.*`, `neck.*`, `head.fc.*`; and back.
 */

import { FleetError } from "../../proto/errors.ts";

/**
 * How a file names its tensors. torchvision's have no `backbone.` and call the classifier `fc`;
 * bare ones are such a backbone alone, as mmselfsup 0.x published it.
 */
export type NamingStyle = "mmpretrain" | "torchvision" | "bare";

/** How an exported file names them; `backbone` is bare. */
export const EXPORT_STYLES = ["mmpretrain", "torchvision", "backbone"] as const;
export type ExportStyle = (typeof EXPORT_STYLES)[number];

export interface CanonicalNames<T> {
  readonly style: NamingStyle;
  readonly named: ReadonlyMap<string, T>;
}

/** What DistributedDataParallel and torch.compile put in front, in any order. */
const WRAPPERS = /^((module|_orig_mod)\.)+/;
/** Names are printed and logged. */
const PRINTABLE = /^[!-~]{1,300}$/;
const BACKBONE = "backbone.";
const BARE_BACKBONE = /^(conv1|bn1|layer\d+)\./;

/**
 * Renames what a state_dict holds; what belongs to no part of the model keeps its name.
 *
 * @throws {FleetError} CHECKPOINT_INVALID when two names become one, or one cannot be shown
 */
export function canonicalNames<T>(values: ReadonlyMap<string, T>): CanonicalNames<T> {
  const names = [...values.keys()].map((name) => name.replace(WRAPPERS, ""));
  if (!names.every((name) => PRINTABLE.test(name))) {
    throw new FleetError("CHECKPOINT_INVALID", "one of its tensors has a name that is no name");
  }
  const style = styleOf(names);
  const named = new Map<string, T>();
  for (const [index, value] of [...values.values()].entries()) {
    const name = style === "mmpretrain" ? names[index]! : withBackbone(names[index]!);
    if (named.has(name)) {
      throw new FleetError("CHECKPOINT_INVALID", `two of its tensors would be ${name}`);
    }
    named.set(name, value);
  }
  return { style, named };
}

/** The name of a tensor in an exported file; undefined where that style has no place for it. */
export function exportName(name: string, style: ExportStyle): string | undefined {
  if (style === "mmpretrain") return name;
  if (name.startsWith(BACKBONE)) return name.slice(BACKBONE.length);
  const isHead = style === "torchvision" && name.startsWith("head.fc.");
  return isHead ? name.slice("head.".length) : undefined;
}

function styleOf(names: readonly string[]): NamingStyle {
  if (names.some((name) => name.startsWith(BACKBONE))) return "mmpretrain";
  return names.includes("fc.weight") ? "torchvision" : "bare";
}

function withBackbone(name: string): string {
  if (BARE_BACKBONE.test(name)) return `${BACKBONE}${name}`;
  return name.startsWith("fc.") ? `head.${name}` : name;
}
