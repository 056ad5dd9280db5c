/** `--set pretrain.optimizer.lr=2.4`: one value of a recipe, replaced from the command line. */

import { parse } from "yaml";
import { FleetError } from "./errors.ts";
import { didYouMean, RECIPE_KEYS } from "./recipe.ts";

/**
 * Applies `settings` of the form `path.to.key=VALUE` to a recipe that was not checked yet.
 *
 * VALUE is YAML: `2.4`, `true`, `[0.2, 1]`, `{type: sgd, lr: 0.1}`. A map or a list replaces the
 * old one as a whole. The values themselves are checked afterwards, by parseRecipe.
 *
 * @throws {FleetError} RECIPE_INVALID on an unknown path or a value that is not YAML
 */
export function applyOverrides(recipe: unknown, settings: readonly string[]): unknown {
  const changed: unknown = structuredClone(recipe);
  for (const setting of settings) applyOverride(changed, setting);
  return changed;
}

function applyOverride(recipe: unknown, setting: string): void {
  const equals = setting.indexOf("=");
  if (equals < 1) {
    throw new FleetError("RECIPE_INVALID", `--set ${setting}: must be path.to.key=VALUE`);
  }
  const path = setting.slice(0, equals);
  if (!RECIPE_KEYS.includes(path)) {
    throw new FleetError("RECIPE_INVALID", `--set ${path}: unknown key${didYouMean(path)}`);
  }

  const keys = path.split(".");
  const last = keys.pop() as string;
  let parent = recipe;
  for (const [depth, key] of keys.entries()) {
    if (!isMap(parent)) throw notAMap(path, keys.slice(0, depth));
    parent[key] ??= {};
    parent = parent[key];
  }
  if (!isMap(parent)) throw notAMap(path, keys);
  parent[last] = parseValue(path, setting.slice(equals + 1));
}

function parseValue(path: string, text: string): unknown {
  try {
    return parse(text, { uniqueKeys: true });
  } catch (cause) {
    const problem = cause instanceof Error ? cause.message.split("\n", 1)[0] : String(cause);
    throw new FleetError("RECIPE_INVALID", `--set ${path}: ${problem}`, {}, cause);
  }
}

function notAMap(path: string, parent: readonly string[]): FleetError {
  const name = parent.join(".") || "recipe";
  return new FleetError("RECIPE_INVALID", `--set ${path}: ${name} is not a map in this recipe`);
}

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
