/** `worker list-models`: the models that have a name. */

import { type Command, Option } from "commander";
import { type CliContext, printJson, runCommand } from "../../proto/cli/cli-context.ts";
import { formatCount, formatTable } from "../../proto/cli/format.ts";
import { findCard, type ListOptions, listModels, type ModelCard } from "../inference/model-zoo.ts";

interface ListModelsOptions {
  readonly exclude: readonly string[];
  readonly task?: NonNullable<ListOptions["task"]>;
  readonly json?: boolean;
}

export function registerListModels(program: Command, context: CliContext): void {
  program
    .command("list-models")
    .description("list the models that have a name, with size, accuracy and weights as published")
    .argument("[pattern]", "names that begin like this; * is any text, ? any letter", "*")
    .option("--exclude <pattern...>", "leave out what one of these matches", [])
    .addOption(
      new Option("--task <name>", "models of this task; null is none").choices([
        "Image Classification",
        "null",
      ]),
    )
    .option("--json", "print JSON")
    .action((pattern: string, options: ListModelsOptions) =>
      runCommand(context, "info", async () => list(context, pattern, options)),
    );
}

function list(context: CliContext, pattern: string, options: ListModelsOptions): void {
  const { exclude: excludePatterns, task, json = false } = options;
  const names = listModels(pattern, { excludePatterns, ...(task ? { task } : {}) });
  const cards = names.flatMap((name) => findCard(name) ?? []);
  if (json) {
    printJson(
      context,
      cards.map(({ recipe, ...card }) => ({ ...card, recipe: recipe.name })),
    );
    return;
  }
  const head = ["NAME", "TASK", "PARAMETERS", "FLOPS", "TOP-1", "WEIGHTS"];
  context.stdout.write(formatTable(head, cards.map(toRow)));
}

function toRow({ name, task, parameters, flops, top1, weights }: ModelCard): string[] {
  return [
    name,
    task === "null" ? "-" : task,
    formatCount(parameters),
    formatCount(flops),
    top1 === undefined ? "-" : `${top1.toFixed(2)} %`,
    weights ?? "-",
  ];
}
