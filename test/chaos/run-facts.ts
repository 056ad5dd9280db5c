/** What a finished experiment leaves, but for times: equal to the bit when two were the same. */

import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { STAGES } from "./training-watch.ts";

export interface RunFacts {
  /** Step and digest of the tensors' file, by "STAGE/FILE" of the last checkpoint. */
  readonly weights: ReadonlyMap<string, string>;
  /** Lines of scalars.jsonl without times, by stage. */
  readonly scalars: ReadonlyMap<string, readonly Readonly<Record<string, unknown>>[]>;
}

/** Whatever tells of time in a line of scalars.jsonl. */
const TIMES = /(^images_per_s|_s|_seconds|_hidden)$/;

/** @param folder of the experiment, in the workers' folder */
export function readRunFacts(folder: string): RunFacts {
  const weights = new Map<string, string>();
  const scalars = new Map<string, readonly Record<string, unknown>[]>();
  for (const stage of STAGES) {
    const own = path.join(folder, stage);
    if (!existsSync(own)) continue;
    const newest = readdirSync(path.join(own, "checkpoints")).sort().at(-1) ?? "";
    const checkpoint = path.join(own, "checkpoints", newest);
    for (const file of readdirSync(checkpoint).filter((name) => name.endsWith(".safetensors"))) {
      const bytes = readFileSync(path.join(checkpoint, file));
      const digest = createHash("sha256").update(bytes).digest("hex");
      weights.set(`${stage}/${file}`, `${newest} ${digest}`);
    }
    scalars.set(stage, readLines(path.join(own, "scalars.jsonl")).map(withoutTimes));
  }
  return { weights, scalars };
}

/** @returns what differs, in words; empty when nothing does */
export function differences(actual: RunFacts, expected: RunFacts): readonly string[] {
  const files = [...new Set([...actual.weights.keys(), ...expected.weights.keys()])];
  const weights = files.flatMap((file) => {
    const [has, wants] = [actual.weights.get(file), expected.weights.get(file)];
    return has === wants ? [] : [`${file} is ${has ?? "absent"}, not ${wants ?? "absent"}`];
  });
  const scalars = STAGES.flatMap((stage) =>
    differentLines(stage, actual.scalars.get(stage) ?? [], expected.scalars.get(stage) ?? []),
  );
  return [...weights, ...scalars];
}

/** The lines of a file that end; the last may have been cut off by a kill. */
export function readLines(file: string): readonly string[] {
  return readFileSync(file, "utf8").split("\n").slice(0, -1);
}

function withoutTimes(line: string): Record<string, unknown> {
  const entries = Object.entries(JSON.parse(line) as Record<string, unknown>);
  return Object.fromEntries(entries.filter(([name]) => !TIMES.test(name)));
}

type Lines = readonly Readonly<Record<string, unknown>>[];

function differentLines(stage: string, actual: Lines, expected: Lines): readonly string[] {
  const length = Math.max(actual.length, expected.length);
  const differing = Array.from({ length }, (_, i) => i).filter(
    (i) => JSON.stringify(actual[i]) !== JSON.stringify(expected[i]),
  );
  const [first] = differing;
  if (first === undefined) return [];
  const [has, wants] = [actual, expected].map((lines) => JSON.stringify(lines[first]) ?? "absent");
  const where = `${stage}/scalars.jsonl: ${differing.length} of ${length} lines differ`;
  return [`${where}, line ${first + 1} is ${has}, not ${wants}`];
}
