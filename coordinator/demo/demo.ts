/** `coordinator demo` */

import type { Command } from "commander";
import { type CliContext, runCommand } from "../../proto/cli/cli-context.ts";
import { recipeSetting } from "../../proto/cli/load-recipe.ts";
import { wholeNumber } from "../../proto/cli/option-values.ts";

export interface DemoOptions {
  readonly dir?: string;
  readonly seed: number;
  readonly engine: string;
  readonly set: readonly string[];
  readonly keep: boolean;
  readonly imagesOnly: boolean;
  readonly json: boolean;
  readonly logLevel: string;
}

export function registerDemo(program: Command, context: CliContext): void {
  program
    .command("demo")
    .description(
      "a cluster on this machine: generates images, pre-trains, and compares the result with a " +
        "random backbone; stops everything it started",
    )
    .option("--dir <dir>", "folder for the results, new or empty (default: work_dirs/demo-TIME)")
    .option(
      "--images-only",
      "only draw the images, into --dir (default: data/demo), for a fleet that runs already",
      false,
    )
    .option("--seed <n>", "of the images and of the training", wholeNumber, 0)
    .option("--engine <name>", "what the workers compute with, as in `worker start`", "auto")
    .addOption(recipeSetting())
    .option("--keep", "keep images and checkpoints as well", false)
    .option("--json", "print the figures as JSON, and nothing else", false)
    .option("--log-level <level>", "debug adds stack traces to errors", "info")
    .action((options: DemoOptions) =>
      runCommand(context, options.logLevel, async () => {
        if (options.imagesOnly) {
          const { drawImages } = await import("./draw-images.ts");
          return await drawImages(options, context);
        }
        // Charts and image codecs take a moment to load; the other commands have no use for them.
        const { runDemo } = await import("./run-demo.ts");
        await runDemo(options, context);
      }),
    );
}
