/** `coordinator watch`: follows an experiment to its end. */

import type { Command } from "commander";
import type { CliContext } from "../../proto/cli/cli-context.ts";
import { formatDuration, formatFigure } from "../../proto/cli/format.ts";
import { FleetError } from "../../proto/errors.ts";
import { type ExperimentView, toView } from "../control/experiment-view.ts";
import { acrossRestarts } from "./across-restarts.ts";
import { type ClientOptions, runWithClient, withClientOptions } from "./client-options.ts";
import type { OperatorClient } from "./operator-client.ts";
import {
  boundWarning,
  formatBar,
  formatProgress,
  formatState,
  formatStraggler,
} from "./progress-line.ts";

/** A log gets a line of progress at least this often, and for each epoch. */
const LINE_INTERVAL_MS = 10_000;

export function registerWatch(program: Command, context: CliContext): void {
  const command = program
    .command("watch")
    .description("follow an experiment; exit status 0 succeeded, 3 failed, 4 cancelled")
    .argument("<id>", "of the experiment");
  withClientOptions(command, context).action((id: string, options: ClientOptions) =>
    runWithClient(context, options, (client) => watchExperiment(context, client, id, options)),
  );
}

/**
 * Shows an experiment until it ends: a bar on a terminal, lines elsewhere, JSON lines with `json`.
 *
 * @throws {FleetError} EXPERIMENT_FAILED, EXPERIMENT_CANCELLED, NOT_FOUND, COORDINATOR_UNREACHABLE
 */
export async function watchExperiment(
  context: CliContext,
  client: OperatorClient,
  id: string,
  { json }: { readonly json: boolean },
): Promise<void> {
  const show = json ? jsonLines(context) : context.stdout.isTTY ? bar(context) : lines(context);
  let last: ExperimentView | undefined;
  try {
    for await (const view of follow(client, id)) {
      show(view);
      last = view;
    }
  } catch (thrown) {
    // The message that follows must not stand behind the bar.
    if (last && context.stdout.isTTY && !json) context.stdout.write("\n");
    throw thrown;
  }
  if (last?.state === "failed") {
    throw new FleetError("EXPERIMENT_FAILED", `${id} failed: ${last.reason}`);
  }
  if (last?.state === "cancelled") {
    throw new FleetError("EXPERIMENT_CANCELLED", `${id} was cancelled`);
  }
  if (last && !json) context.stdout.write(formatResults(last));
}

/** The states of an experiment, across restarts of the coordinator. */
export async function* follow(client: OperatorClient, id: string): AsyncGenerator<ExperimentView> {
  for await (const experiment of acrossRestarts(() => client.watch(id))) yield toView(experiment);
}

type Show = (view: ExperimentView) => void;

function jsonLines({ stdout }: CliContext): Show {
  return (view) => stdout.write(`${JSON.stringify(view)}\n`);
}

function lines({ stdout }: CliContext): Show {
  let lastState = "";
  let lastEpoch = -1;
  let nextLineMs = 0;
  const warn = warnings();
  return (view) => {
    const state = formatState(view);
    if (state !== lastState) stdout.write(`${state}\n`);
    if (state !== lastState) lastEpoch = -1;
    lastState = state;

    const { progress } = view;
    if (view.state !== "running" || !progress) return;
    stdout.write(warn(view));
    const epoch = Math.floor(progress.epoch);
    if (epoch === lastEpoch && performance.now() < nextLineMs) return;
    lastEpoch = epoch;
    nextLineMs = performance.now() + LINE_INTERVAL_MS;
    stdout.write(`${formatProgress(view, progress)}\n`);
  };
}

/** State changes scroll; progress overwrites the last line. */
function bar({ stdout }: CliContext): Show {
  const CLEAR_LINE = "\r\u001b[K";
  let lastState = "";
  const warn = warnings();
  return (view) => {
    const state = formatState(view);
    if (state !== lastState) stdout.write(`${CLEAR_LINE}${state}\n`);
    lastState = state;
    const { progress } = view;
    if (!["running", "stopping"].includes(view.state) || !progress) return;
    const warning = warn(view);
    if (warning !== "") stdout.write(`${CLEAR_LINE}${warning}`);
    stdout.write(`${CLEAR_LINE}${formatBar(view, progress, stdout.columns)}`);
  };
}

/** Lines for what begins or ends to be worth a warning; else nothing. */
function warnings(): (view: ExperimentView) => string {
  const bound = boundWarnings();
  const slow = stragglerWarnings();
  return (view) => `${bound(view)}${slow(view)}`;
}

/** A line when the loss comes to its bound and when it leaves it; else nothing. */
function boundWarnings(): (view: ExperimentView) => string {
  let wasAtBound = false;
  return ({ id, progress }) => {
    const warning = progress && boundWarning(progress);
    const isAtBound = warning !== undefined;
    if (isAtBound === wasAtBound) return "";
    wasAtBound = isAtBound;
    if (isAtBound) return `${id} warning: ${warning}\n`;
    return progress?.stage === "pretrain" ? `${id} the loss has left its bound\n` : "";
  };
}

/** A line when a rank falls behind the others, and when it keeps up again; else nothing. */
function stragglerWarnings(): (view: ExperimentView) => string {
  let known: ReadonlyMap<string, string> = new Map();
  return ({ id, state, stragglers }) => {
    // While a gang is formed anew nobody is slow.
    if (state !== "running") return "";
    const now = new Map(
      stragglers.map((one) => [one.workerId, `rank ${one.rank} (${one.workerName})`]),
    );
    const slow = stragglers.filter(({ workerId }) => !known.has(workerId));
    const over = [...known].filter(([workerId]) => !now.has(workerId));
    known = now;
    return [
      ...slow.map((one) => `${id} warning: ${formatStraggler(one)}\n`),
      ...over.map(([, name]) => `${id} ${name} is no straggler any more\n`),
    ].join("");
  };
}

/** The figures of each stage's result.json. */
function formatResults(view: ExperimentView): string {
  const stages = Object.entries(view.results).map(([stage, result]) => {
    const figures = Object.entries(result).flatMap(([name, value]) =>
      typeof value === "number" ? [`${name} ${formatFigure(value)}`] : [],
    );
    return `${stage}: ${figures.join("  ")}\n`;
  });
  const seconds = ((view.finishedUnixMs ?? 0) - (view.startedUnixMs ?? 0)) / 1_000;
  return `${stages.join("")}${view.id} succeeded in ${formatDuration(seconds)}\n`;
}
