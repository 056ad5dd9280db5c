/** `coordinator submit` */

import { type Command, InvalidArgumentError } from "commander";
import { type CliContext, printJson } from "../../proto/cli/cli-context.ts";
import { loadRecipe, recipeSetting } from "../../proto/cli/load-recipe.ts";
import { type ClientOptions, runWithClient, withClientOptions } from "./client-options.ts";
import { watchExperiment } from "./watch.ts";

interface SubmitOptions extends ClientOptions {
  readonly set: readonly string[];
  /** Settings of the recipe. */
  readonly workers?: readonly string[];
  readonly priority: number;
  readonly name: string;
  readonly watch: boolean;
}

export function registerSubmit(program: Command, context: CliContext): void {
  const command = program
    .command("submit")
    .description("queue an experiment and print its id")
    .argument("<recipe>", "name of a built-in recipe, or a .yaml file")
    .addOption(recipeSetting())
    .option("--workers <n|min:max>", "how many each stage may run on; else all", workerBounds)
    .option("--priority <n>", "higher goes first", wholeNumber, 0)
    .option("--name <name>", "for people; the recipe's name by default", "")
    .option("--watch", "follow it to its end, as `watch` does", false);
  withClientOptions(command, context).action((recipe: string, options: SubmitOptions) =>
    runWithClient(context, options, async (client) => {
      const { priority, name, json } = options;
      const settings = [...options.set, ...(options.workers ?? [])];
      const recipeJson = JSON.stringify(await loadRecipe(recipe, settings));
      const id = await client.submit({ recipeJson, priority, name });
      if (!json) context.stdout.write(`${id}\n`);
      else if (!options.watch) printJson(context, { id });
      if (options.watch) await watchExperiment(context, client, id, options);
    }),
  );
}

/** "4", or "2:8" as torchrun's --nnodes has it, as settings of the recipe. */
function workerBounds(text: string): readonly string[] {
  const [, least = "", most = least] = /^(\d{1,9})(?::(\d{1,9}))?$/.exec(text) ?? [];
  if (Number(least) < 1) throw new InvalidArgumentError("It is a number of workers, or MIN:MAX.");
  if (Number(least) > Number(most)) throw new InvalidArgumentError("MIN must not exceed MAX.");
  return [`elastic.minWorkers=${Number(least)}`, `elastic.maxWorkers=${Number(most)}`];
}

function wholeNumber(text: string): number {
  if (/^[+-]?\d{1,9}$/.test(text)) return Number(text);
  throw new InvalidArgumentError("It is a whole number.");
}
