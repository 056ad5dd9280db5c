/** How the commands that go on for long write their log. */

import { type Command, Option } from "commander";
import { type Log, openLog } from "../log.ts";
import { LOG_LEVELS } from "../log-line.ts";
import type { LogTap } from "../log-tap.ts";
import type { CliContext } from "./cli-context.ts";

export interface LogFlags {
  readonly logLevel: string;
  readonly logFormat: "auto" | "json" | "pretty";
}

/** Adds `--log-level` and `--log-format`. */
export function withLogOptions(command: Command): Command {
  return command
    .addOption(
      new Option("--log-level <level>", "of the log on standard error")
        .choices(LOG_LEVELS)
        .default("info"),
    )
    .addOption(
      new Option("--log-format <format>", "auto is pretty on a terminal, else JSON")
        .choices(["auto", "json", "pretty"])
        .default("auto"),
    );
}

export async function openCommandLog(
  { stderr, env }: Pick<CliContext, "stderr" | "env">,
  { logLevel, logFormat }: LogFlags,
  options: { readonly process: string; readonly tap: LogTap },
): Promise<Log> {
  const isPretty = logFormat === "pretty" || (logFormat === "auto" && stderr.isTTY);
  const isColoured = stderr.isTTY && !env["NO_COLOR"];
  // Most processes never need it, and it takes a moment to load.
  const format = isPretty
    ? (await import("../log-pretty.ts")).prettyLines({ isColoured, omits: ["process"] })
    : undefined;
  const { process, tap } = options;
  return openLog({ level: logLevel, process, format, onLine: tap.take });
}
