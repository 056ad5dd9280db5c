/** `coordinator workers` and `drain` */

import type { Command } from "commander";
import { type CliContext, printJson } from "../../proto/cli/cli-context.ts";
import { formatDuration, formatFigure, formatTable } from "../../proto/cli/format.ts";
import { toWorkerView, type WorkerView } from "../control/experiment-view.ts";
import { nameDedication } from "../member/dedication.ts";
import { type ClientOptions, runWithClient, withClientOptions } from "./client-options.ts";

export function registerWorkers(program: Command, context: CliContext): void {
  const command = program.command("workers").description("the workers of the fleet");
  withClientOptions(command, context).action((options: ClientOptions) =>
    runWithClient(context, options, async (client) => {
      const views = (await client.workers()).map(toWorkerView);
      if (options.json) return printJson(context, views);
      context.stdout.write(formatWorkers(views));
    }),
  );
}

export function registerDrain(program: Command, context: CliContext): void {
  const command = program
    .command("drain")
    .description("send a worker away; its gang stops at a step boundary and goes on without it")
    .argument("<worker>", "its id, the beginning of it, or its name");
  withClientOptions(command, context).action((worker: string, options: ClientOptions) =>
    runWithClient(context, options, async (client) => {
      const view = toWorkerView(await client.drain(worker));
      if (options.json) return printJson(context, view);
      const until = view.experiment === undefined ? "" : ` once ${view.experiment} has let it go`;
      context.stdout.write(`${view.id} (${view.name}) leaves${until}\n`);
    }),
  );
}

function formatWorkers(views: readonly WorkerView[]): string {
  if (views.length === 0) return "no workers; start some with `worker start --coordinator ...`\n";
  const isAnyDedicated = views.some(({ dedication }) => dedication !== undefined);
  const head = [
    ...["ID", "NAME", "STATE", "ENGINE", "DEVICE"],
    ...["EXPERIMENT", "RANK", "STEP", "OWN STEP", "HEARD"],
    ...(isAnyDedicated ? ["ONLY FOR"] : []),
  ];
  const rows = views.map((view) => [
    view.id,
    view.name,
    view.draining ? `${view.state}, drains` : view.state,
    view.engine,
    view.device,
    view.experiment ?? "-",
    view.rank === undefined ? "-" : String(view.rank),
    view.state === "busy" ? String(view.step) : "-",
    view.ownStepSeconds === undefined ? "-" : `${formatFigure(view.ownStepSeconds)} s`,
    `${formatDuration(view.heartbeatAgeMs / 1_000)} ago`,
    ...(isAnyDedicated ? [view.dedication ? nameDedication(view.dedication) : "-"] : []),
  ]);
  return formatTable(head, rows);
}
