/** Finds the recipe that a user names: a built-in one, or a YAML file. */

import { readFile } from "node:fs/promises";
import { Option } from "commander";
import { FleetError } from "../errors.ts";
import { type Locate, parseRecipe, type Recipe } from "../recipe.ts";
import { applyOverrides } from "../recipe-overrides.ts";
import { parseRecipeYaml, type RecipeText } from "../recipe-yaml.ts";
import { findRecipe } from "../recipes/registry.ts";

/** `--set PATH=VALUE`, which may be repeated. */
export function recipeSetting(): Option {
  return new Option("--set <path=value>", "override a value of the recipe; may be repeated")
    .default([], "none")
    .argParser((value: string, earlier: readonly string[]) => [...earlier, value]);
}

/**
 * @param nameOrFile name of a built-in recipe, or path of a file that ends in .yaml or .yml
 * @param settings `--set` values, applied in order
 * @throws {FleetError} NOT_FOUND, RECIPE_INVALID
 */
export async function loadRecipe(nameOrFile: string, settings: readonly string[]): Promise<Recipe> {
  const { input, locate } = /\.ya?ml$/.test(nameOrFile)
    ? await readRecipeFile(nameOrFile)
    : { input: findRecipe(nameOrFile), locate: undefined };
  const overridden = settings.map((setting) => setting.split("=", 1)[0] ?? "");
  const locateAll: Locate = (path) => {
    const key = path.join(".");
    const isOverridden = overridden.some((set) => key === set || key.startsWith(`${set}.`));
    return isOverridden ? "--set" : locate?.(path);
  };
  return parseRecipe(applyOverrides(input, settings), locateAll);
}

async function readRecipeFile(file: string): Promise<RecipeText> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (cause) {
    const reason =
      (cause as NodeJS.ErrnoException).code === "ENOENT" ? "no such file" : String(cause);
    throw new FleetError("NOT_FOUND", `cannot read the recipe ${file}: ${reason}`, {}, cause);
  }
  return parseRecipeYaml(text, file);
}
