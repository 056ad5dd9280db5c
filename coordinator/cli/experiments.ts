/** `coordinator list`, `show`, `cancel`, `pause`, `resume` and `retry` */

import type { Command } from "commander";
import { type CliContext, printJson } from "../../proto/cli/cli-context.ts";
import { formatDuration, formatFigure, formatTable, formatTime } from "../../proto/cli/format.ts";
import type { Experiment } from "../../proto/gen/coordinator.ts";
import { type ExperimentView, toHistory, toView } from "../control/experiment-view.ts";
import { type ClientOptions, runWithClient, withClientOptions } from "./client-options.ts";
import type { OperatorClient } from "./operator-client.ts";
import { boundWarning, formatProgress, formatState, formatStraggler } from "./progress-line.ts";

export function registerList(program: Command, context: CliContext): void {
  const command = program.command("list").description("all experiments, oldest first");
  withClientOptions(command, context).action((options: ClientOptions) =>
    runWithClient(context, options, async (client) => {
      const views = (await client.list()).map(toView);
      if (options.json) return printJson(context, views);
      context.stdout.write(formatList(views, Date.now()));
    }),
  );
}

export function registerShow(program: Command, context: CliContext): void {
  const command = program
    .command("show")
    .description("everything about one experiment")
    .argument("<id>", "of the experiment");
  withClientOptions(command, context).action((id: string, options: ClientOptions) =>
    runWithClient(context, options, async (client) => {
      const experiment = await client.get(id);
      if (options.json) return printJson(context, toDetails(experiment));
      context.stdout.write(formatDetails(experiment));
    }),
  );
}

export function registerCancel(program: Command, context: CliContext): void {
  registerChange(program, context, {
    name: "cancel",
    description:
      "stop an experiment at its next step boundary, with a checkpoint; a second time: at once",
    change: (client, id) => client.cancel(id),
  });
}

export function registerPause(program: Command, context: CliContext): void {
  registerChange(program, context, {
    name: "pause",
    description: "as cancel, but it keeps its place and can be resumed",
    change: (client, id) => client.pause(id),
  });
}

export function registerResume(program: Command, context: CliContext): void {
  registerChange(program, context, {
    name: "resume",
    description: "let a paused experiment go on from where it was stopped",
    change: (client, id) => client.resume(id),
  });
}

export function registerRetry(program: Command, context: CliContext): void {
  registerChange(program, context, {
    name: "retry",
    description: "queue a failed or cancelled experiment again, from its newest checkpoint",
    change: (client, id) => client.retry(id),
  });
}

interface Change {
  readonly name: string;
  readonly description: string;
  readonly change: (client: OperatorClient, id: string) => Promise<Experiment>;
}

function registerChange(program: Command, context: CliContext, change: Change): void {
  const command = program
    .command(change.name)
    .description(change.description)
    .argument("<id>", "of the experiment");
  withClientOptions(command, context).action((id: string, options: ClientOptions) =>
    runWithClient(context, options, async (client) => {
      const experiment = await change.change(client, id);
      if (options.json) return printJson(context, toDetails(experiment));
      context.stdout.write(`${formatState(toView(experiment))}\n`);
    }),
  );
}

function toDetails(experiment: Experiment): object {
  return {
    ...toView(experiment),
    history: toHistory(experiment),
    resolvedRecipe: JSON.parse(experiment.recipeJson),
  };
}

function formatList(views: readonly ExperimentView[], nowMs: number): string {
  if (views.length === 0) return "no experiments\n";
  const head = ["ID", "STATE", "STAGE", "EPOCH", "LOSS", "PRIORITY", "AGE", "NAME", "REASON"];
  const rows = views.map((view) => [
    view.id,
    view.state,
    view.stage,
    view.progress ? `${view.progress.epoch.toFixed(2)}/${view.progress.epochsTotal}` : "-",
    view.progress ? formatFigure(view.progress.loss) : "-",
    String(view.priority),
    formatDuration((nowMs - view.submittedUnixMs) / 1_000),
    view.name,
    view.reason,
  ]);
  return formatTable(head, rows);
}

function formatDetails(experiment: Experiment): string {
  const view = toView(experiment);
  const { progress } = view;
  const facts: [string, string | undefined][] = [
    ["id", view.id],
    ["name", view.name],
    ["recipe", view.recipe],
    ["state", view.state],
    ["reason", view.reason || undefined],
    ["error", view.errorCode],
    ["stage", view.stage],
    ["generation", String(view.generation)],
    ["priority", String(view.priority)],
    ["restarts", formatRestarts(view)],
    ["submitted", formatTime(view.submittedUnixMs)],
    ["started", view.startedUnixMs === undefined ? undefined : formatTime(view.startedUnixMs)],
    ["finished", view.finishedUnixMs === undefined ? undefined : formatTime(view.finishedUnixMs)],
    ["progress", progress && formatProgress(view, progress)],
    ["warning", progress && boundWarning(progress)],
    ...view.stragglers.map((one): [string, string] => ["straggler", formatStraggler(one)]),
    ["workers", view.workers.length > 0 ? view.workers.join(" ") : undefined],
    ...Object.entries(view.results).map(([stage, result]): [string, string] => [
      `${stage} result`,
      JSON.stringify(result),
    ]),
  ];
  const known = facts.flatMap(([name, value]) => (value === undefined ? [] : [[name, value]]));
  const width = Math.max(...known.map(([name]) => name?.length ?? 0));
  const lines = known.map(([name, value]) => `${name?.padEnd(width)}  ${value}\n`);
  return `${lines.join("")}${formatHistory(experiment)}`;
}

function formatRestarts({ restarts, ...counts }: ExperimentView): string {
  if (restarts === 0) return "0";
  const { failures, preemptions, membershipChanges } = counts;
  const kinds = [
    `${failures} after failures`,
    `${preemptions} after preemptions`,
    `${membershipChanges} to change members`,
  ];
  return `${restarts}: ${kinds.join(", ")}`;
}

function formatHistory(experiment: Experiment): string {
  const history = toHistory(experiment);
  if (history.length === 0) return "";
  const rows = history.map((entry) => [
    formatTime(entry.unixMs),
    `${entry.from} -> ${entry.to}`,
    entry.stage,
    String(entry.generation),
    entry.because,
  ]);
  return `\n${formatTable(["TIME", "STATE", "STAGE", "GENERATION", "BECAUSE"], rows)}`;
}
