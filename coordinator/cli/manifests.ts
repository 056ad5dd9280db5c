/** `coordinator manifests`: a recipe's workers for Kubernetes. Needs no coordinator. */

import { type Command, InvalidArgumentError, Option } from "commander";
import { type CliContext, printJson, runCommand } from "../../proto/cli/cli-context.ts";
import { loadRecipe, recipeSetting } from "../../proto/cli/load-recipe.ts";
import { formatManifests } from "../kubernetes/format-manifests.ts";
import { NAMESPACE } from "../kubernetes/object-names.ts";
import {
  type ManifestOptions,
  OVERLAYS,
  type Overlay,
  renderManifests,
} from "../kubernetes/render-manifests.ts";
import { readJobTemplate } from "./read-job-template.ts";

interface CommandOptions {
  readonly overlay: readonly Overlay[];
  readonly set: readonly string[];
  readonly name?: string;
  readonly namespace: string;
  readonly image?: string;
  readonly experiment?: string;
  readonly template?: string;
  readonly plaintext: boolean;
  readonly json: boolean;
  readonly logLevel: string;
}

export function registerManifests(program: Command, context: CliContext): void {
  program
    .command("manifests")
    .description("print a recipe's workers as Kubernetes objects, for `kubectl apply -f -`")
    .argument("<recipe>", "name of a built-in recipe, or a .yaml file")
    .addOption(
      new Option("--overlay <name>", `${OVERLAYS.join(", ")}; may be repeated`)
        .default([], "none")
        .argParser(overlay),
    )
    .addOption(recipeSetting())
    .option("--name <name>", "of the Jobs; the experiment's or the recipe's by default")
    .option("--namespace <name>", "of all objects", dnsLabel, NAMESPACE)
    .option("--image <image>", "of the workers; simclr-fleet/worker-gpu or -cpu by default")
    .option("--experiment <id>", "the only experiment that the workers take part in")
    .option("--template <file>", "YAML of a part of a Job, laid over all of them")
    .option("--plaintext", "without TLS, as the coordinator then has to be, too", false)
    .option("--json", "print JSON", false)
    .option("--log-level <level>", "debug adds stack traces to errors", "info")
    .action((recipe: string, options: CommandOptions) =>
      runCommand(context, options.logLevel, () => printManifests(recipe, options, context)),
    );
}

async function printManifests(
  nameOrFile: string,
  options: CommandOptions,
  context: CliContext,
): Promise<void> {
  const { overlay, set, namespace, image, experiment, template, json } = options;
  const recipe = await loadRecipe(nameOrFile, set);
  const manifest: ManifestOptions = {
    recipe,
    name: options.name ?? experiment ?? recipe.name,
    namespace,
    overlays: overlay,
    security: options.plaintext ? "plaintext" : "tls",
    ...(image === undefined ? {} : { image }),
    ...(experiment === undefined ? {} : { experimentId: experiment }),
    ...(template === undefined ? {} : { template: await readJobTemplate("--template", template) }),
  };
  if (!json) context.stdout.write(formatManifests(manifest));
  else printJson(context, { apiVersion: "v1", kind: "List", items: renderManifests(manifest) });
}

function overlay(name: string, earlier: readonly Overlay[]): readonly Overlay[] {
  const known = OVERLAYS.find((each) => each === name);
  if (known !== undefined) return [...new Set([...earlier, known])];
  throw new InvalidArgumentError(`There are ${OVERLAYS.join(", ")}.`);
}

/** A name of a namespace, for commander. */
export function dnsLabel(text: string): string {
  if (/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(text)) return text;
  throw new InvalidArgumentError("It is made of small letters, digits and -.");
}
