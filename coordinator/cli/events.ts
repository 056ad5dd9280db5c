/** `coordinator events` */

import type { Command } from "commander";
import { type CliContext, printJson } from "../../proto/cli/cli-context.ts";
import { formatTable, formatTime } from "../../proto/cli/format.ts";
import { type EventView, toEventView } from "../control/experiment-view.ts";
import { type ClientOptions, runWithClient, withClientOptions } from "./client-options.ts";
import type { OperatorClient } from "./operator-client.ts";
import { follow } from "./watch.ts";

interface EventsOptions extends ClientOptions {
  readonly follow: boolean;
}

export function registerEvents(program: Command, context: CliContext): void {
  const command = program
    .command("events")
    .description("what has happened to an experiment: restarts, lost workers, checkpoints, ...")
    .argument("<id>", "of the experiment")
    .option("--follow", "go on until it has ended; with --json a line per event", false);
  withClientOptions(command, context).action((id: string, options: EventsOptions) =>
    runWithClient(context, options, async (client) => {
      if (options.follow) return followEvents(context, client, id, options);
      const views = (await client.events(id, 0)).map(toEventView);
      if (options.json) return printJson(context, views);
      context.stdout.write(formatTable(HEAD, views.map(toRow)));
    }),
  );
}

/** Prints each event when it comes. */
async function followEvents(
  { stdout }: CliContext,
  client: OperatorClient,
  id: string,
  { json }: EventsOptions,
): Promise<void> {
  let last = 0;
  for await (const _ of follow(client, id)) {
    for (const view of (await client.events(id, last)).map(toEventView)) {
      last = view.sequence;
      stdout.write(json ? `${JSON.stringify(view)}\n` : `${toRow(view).join("  ")}\n`);
    }
  }
}

const HEAD = ["TIME", "EVENT", "STAGE", "GENERATION", "STEP", "RANK", "WHAT"];

function toRow(view: EventView): readonly string[] {
  const { type, from, to, message } = view;
  return [
    formatTime(view.unixMs),
    type,
    view.stage,
    String(view.generation),
    view.step === undefined ? "-" : String(view.step),
    view.rank === undefined ? "-" : String(view.rank),
    type === "state" ? `${from} -> ${to}: ${message}` : message,
  ];
}
