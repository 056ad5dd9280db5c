/** `coordinator logs` */

import { type Command, InvalidArgumentError, Option } from "commander";
import type { CliContext } from "../../proto/cli/cli-context.ts";
import type { LogLine, LogLines, ReadLogsRequest } from "../../proto/gen/coordinator.ts";
import { LINE_LEVELS, type LineLevel } from "../../proto/log-line.ts";
import { findStage } from "../../proto/wire-stages.ts";
import { acrossRestarts } from "./across-restarts.ts";
import { type ClientOptions, runWithClient, withClientOptions } from "./client-options.ts";
import type { OperatorClient } from "./operator-client.ts";

interface LogsOptions extends ClientOptions {
  readonly rank?: number;
  readonly level?: LineLevel;
  readonly tail?: number;
  readonly follow: boolean;
}

export function registerLogs(program: Command, context: CliContext): void {
  const command = program
    .command("logs")
    .description("what workers and coordinator have logged about an experiment")
    .argument("<id>", "of the experiment")
    .option("--rank <rank>", "lines about this rank only", count)
    .addOption(new Option("--level <level>", "lines of this level and above").choices(LINE_LEVELS))
    .option("--tail <n>", "only the newest lines that are kept", positive)
    .option("--follow", "go on until it has ended", false);
  withClientOptions(command, context).action((id: string, options: LogsOptions) =>
    runWithClient(context, options, (client) => showLogs(context, client, id, options)),
  );
}

async function showLogs(
  { stdout, env }: CliContext,
  client: OperatorClient,
  experimentId: string,
  options: LogsOptions,
): Promise<void> {
  const { rank, level = "", tail: last = 0, follow, json } = options;
  const format = json ? jsonLine : await prettyLine(stdout.isTTY && !env["NO_COLOR"]);
  let isFirst = true;
  for await (const batch of newLines(client, { experimentId, rank, level, last, follow })) {
    if (batch.dropped > 0) stdout.write(describeGap(batch.dropped, { isFirst, json }));
    stdout.write(batch.lines.map(format).join(""));
    isFirst = false;
  }
  if (isFirst && !json) stdout.write("no lines are kept\n");
}

/** Each line once: another coordinator, or the same one started anew, begins from the oldest. */
async function* newLines(
  client: OperatorClient,
  request: ReadLogsRequest,
): AsyncGenerator<LogLines> {
  let newest = 0;
  const open = (): AsyncGenerator<LogLines> =>
    client.logs(newest === 0 ? request : { ...request, last: 0 });
  for await (const batch of acrossRestarts(open)) {
    const lines = batch.lines.filter(({ cursor }) => Number(cursor) > newest);
    const isKnown = newest > 0 && lines.length < Math.max(1, batch.lines.length);
    const dropped = isKnown ? 0 : batch.dropped;
    newest = Number(lines.at(-1)?.cursor ?? newest);
    if (lines.length > 0 || dropped > 0) yield { lines, dropped };
  }
}

function describeGap(
  dropped: number,
  { isFirst, json }: { readonly isFirst: boolean; readonly json: boolean },
): string {
  if (json) return `${JSON.stringify({ dropped })}\n`;
  const lines = dropped === 1 ? "line is" : "lines are";
  return `... ${dropped} ${isFirst ? "older " : ""}${lines} not kept\n`;
}

/** As the log of the process has it, with the worker's name. */
function jsonLine(line: LogLine): string {
  return `${JSON.stringify({ ...toFields(line), cursor: Number(line.cursor) })}\n`;
}

async function prettyLine(isColoured: boolean): Promise<(line: LogLine) => string> {
  const { prettyLines } = await import("../../proto/log-pretty.ts");
  const pretty = prettyLines({ isColoured, omits: ["experiment", "worker"] });
  return (line) => {
    const { process, ...fields } = toFields(line);
    return pretty(line.workerName === "" ? { ...fields, process } : fields);
  };
}

function toFields(line: LogLine): Readonly<Record<string, unknown>> {
  const { unixMs, level, experimentId: experiment, generation, rank, step, event } = line;
  const isOwn = line.workerName === "";
  const known = {
    level,
    time: new Date(unixMs).toISOString(),
    ...(isOwn ? { process: "coordinator" } : { process: "worker", worker: line.workerName }),
    experiment,
    stage: findStage(line.stage),
    ...(generation === 0 ? {} : { generation }),
    rank,
    step,
    event,
  };
  const details = line.detailsJson === "" ? {} : JSON.parse(line.detailsJson);
  // What a worker adds of its own comes last, and is never taken for what is known of the line.
  return { ...known, ...details, ...known };
}

function count(text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new InvalidArgumentError("A rank is a whole number from 0 on.");
}

function positive(text: string): number {
  if (/^\d{1,9}$/.test(text) && Number(text) > 0) return Number(text);
  throw new InvalidArgumentError("It is a whole number from 1 on.");
}
