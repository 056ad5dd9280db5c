/** A line of a log for people: time, level, of what, what happened, and the rest as JSON. */

import { prettyFactory } from "pino-pretty";

/** Those that {@link describePlace} names. */
const PLACE = ["process", "experiment", "stage", "generation", "rank", "step"];

/**
 * @param options.isColoured as terminals like it
 * @param options.omits fields that each line would have the same
 */
export function prettyLines(options: {
  readonly isColoured: boolean;
  readonly omits?: readonly string[];
}): (json: string | object) => string {
  const { isColoured, omits = [] } = options;
  return prettyFactory({
    colorize: isColoured,
    singleLine: true,
    messageKey: "event",
    translateTime: false,
    ignore: [...PLACE, ...omits].join(","),
    messageFormat: (line, key) => `${describePlace(line, omits)}${String(line[key])}`,
  });
}

/** e.g. "worker demo-1 pretrain g3 rank 0 step 12: " */
function describePlace(line: Readonly<Record<string, unknown>>, omits: readonly string[]): string {
  const { process, experiment, stage, generation, rank, step } = line;
  const words = [
    omits.includes("process") ? undefined : process,
    omits.includes("experiment") ? undefined : experiment,
    stage,
    generation === undefined ? undefined : `g${generation}`,
    rank === undefined ? undefined : `rank ${rank}`,
    step === undefined ? undefined : `step ${step}`,
  ];
  const known = words.filter((word) => word !== undefined);
  return known.length === 0 ? "" : `${known.join(" ")}: `;
}
