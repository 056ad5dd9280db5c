/**
 * Recipes as YAML text.
 *
 * A file may start from a built-in recipe with `base: NAME`. Maps are then merged key by key; lists
 * and single values replace those of the base, and so does a map whose `type` is another one (an
 * SGD section has no use for the settings of LARS).
 */

import { stringify } from "yaml";
import { FleetError } from "./errors.ts";
import { isMap, readYaml } from "./read-yaml.ts";
import type { Locate, Recipe } from "./recipe.ts";
import { findRecipe } from "./recipes/registry.ts";

export interface RecipeText {
  /** The recipe, not checked yet: for applyOverrides and parseRecipe. */
  readonly input: unknown;
  /** Finds the line of a key, for parseRecipe's messages. */
  readonly locate: Locate;
}

/**
 * Reads a recipe's YAML and merges it into its base.
 *
 * @param file name for error messages
 * @throws {FleetError} RECIPE_INVALID, with the line; NOT_FOUND when there is no such base
 */
export function parseRecipeYaml(text: string, file: string): RecipeText {
  const { content, lineOf } = readYaml(text, file, invalid);
  if (!isMap(content)) throw invalid(`${file} must be a YAML map of a recipe's keys`);

  const { base, ...own } = content;
  if (base !== undefined && typeof base !== "string") {
    throw invalid(`${file}: base must be the name of a built-in recipe`);
  }
  const locate: Locate = (path) => {
    const line = lineOf(path);
    return line === undefined ? undefined : `line ${line}`;
  };
  return { input: base === undefined ? own : merge(findRecipe(base), own), locate };
}

/** A resolved recipe as YAML that parseRecipeYaml reads back. */
export function formatRecipeYaml(recipe: Recipe): string {
  return stringify(recipe, { lineWidth: 0 });
}

function merge(base: unknown, own: unknown): unknown {
  if (!isMap(base) || !isMap(own)) return own;
  const isOtherKind = own["type"] !== undefined && own["type"] !== base["type"];
  if (isOtherKind) return own;
  const merged: Record<string, unknown> = { ...base };
  for (const [key, value] of Object.entries(own)) merged[key] = merge(base[key], value);
  return merged;
}

function invalid(message: string, cause?: unknown): FleetError {
  return new FleetError("RECIPE_INVALID", message, {}, cause);
}
