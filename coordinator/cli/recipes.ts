/**
 * `coordinator recipes`: the built-in recipes, and what a recipe comes to. Needs no coordinator.
 */

import type { Command } from "commander";
import { type CliContext, printJson, runCommand } from "../../proto/cli/cli-context.ts";
import { formatCount, formatTable } from "../../proto/cli/format.ts";
import { loadRecipe, recipeSetting } from "../../proto/cli/load-recipe.ts";
import { describeModel } from "../../proto/model/describe-model.ts";
import type { Recipe, StageName } from "../../proto/recipe.ts";
import { formatRecipeYaml } from "../../proto/recipe-yaml.ts";
import { RECIPES } from "../../proto/recipes/registry.ts";

interface RecipesOptions {
  readonly set: readonly string[];
  readonly json: boolean;
  readonly logLevel: string;
}

interface ModelSize {
  readonly stage: StageName;
  readonly parameters: number;
  /** For one image. */
  readonly flops: number;
}

export function registerRecipes(program: Command, context: CliContext): void {
  program
    .command("recipes")
    .description("list the built-in recipes, or print one with every value filled in")
    .argument("[recipe]", "name of a built-in recipe, or a .yaml file")
    .addOption(recipeSetting())
    .option("--json", "print JSON", false)
    .option("--log-level <level>", "debug adds stack traces to errors", "info")
    .action((name: string | undefined, options: RecipesOptions) =>
      runCommand(context, options.logLevel, async () => {
        if (name === undefined) return listRecipes(context, options);
        printRecipe(context, options, await loadRecipe(name, options.set));
      }),
    );
}

function listRecipes(context: CliContext, { json }: RecipesOptions): void {
  const recipes = RECIPES.map(({ name, description = "" }) => ({ name, description }));
  if (json) {
    printJson(context, recipes);
    return;
  }
  const rows = recipes.map(({ name, description }) => [name, description]);
  context.stdout.write(formatTable(["NAME", "DESCRIPTION"], rows));
}

function printRecipe(context: CliContext, { json }: RecipesOptions, recipe: Recipe): void {
  const models = recipe.stages.map((stage) => modelSize(recipe, stage));
  if (json) {
    printJson(context, { recipe, models });
    return;
  }
  const comments = models.map(({ stage, parameters, flops }) => {
    const size = `${formatCount(parameters)} parameters, ${formatCount(flops)} FLOPs an image`;
    return `# ${stage} model: ${size}\n`;
  });
  context.stdout.write(`${comments.join("")}${formatRecipeYaml(recipe)}`);
}

function modelSize({ model, data, linear }: Recipe, stage: StageName): ModelSize {
  const { imageSize } = data;
  const { parameters, flops } = describeModel(model, stage, { imageSize, classes: linear.classes });
  return { stage, parameters, flops };
}
