/**
 * Holds what the ranks say they trained on against what the sampler says they had to: every image
 * of every epoch, each step whole, none left out. And counts the steps that were done again.
 */

import { readdirSync } from "node:fs";
import path from "node:path";
import { batchSizeAt, epochIndices, stepsPerEpoch } from "../../worker/data/sampler.ts";
import type { SampleLine } from "../../worker/train/sample-log.ts";
import { readLines } from "./run-facts.ts";

/** What the recipe and the data say of a stage. */
export interface SampleTask {
  /** Images in the training split. */
  readonly count: number;
  readonly seed: number;
  readonly epochs: number;
  /** Ranks that the recipe gives the stage; fewer workers share them. */
  readonly ranks: number;
  readonly batchPerWorker: number;
}

export interface SampleVerdict {
  /** In words; empty when every image was seen as it had to be. */
  readonly problems: readonly string[];
  /** Steps that were applied, and were applied again by a later gang: by gang, in order. */
  readonly stepsLost: readonly number[];
}

/** All lines of a stage's sample logs. */
export function readSamples(stageFolder: string): readonly SampleLine[] {
  return readdirSync(stageFolder)
    .filter((name) => name.startsWith("samples-rank-"))
    .flatMap((name) => readLines(path.join(stageFolder, name)))
    .map((line) => JSON.parse(line) as SampleLine);
}

export function checkSamples(lines: readonly SampleLine[], task: SampleTask): SampleVerdict {
  const gangs = [...new Set(lines.map(({ generation }) => generation))]
    .sort((a, b) => a - b)
    .map((generation) => gangOf(generation, lines));
  const stepsLost = gangs.slice(1).map(({ first }, i) => gangs[i]!.last - (first - 1));
  const problems = stepsLost.flatMap((lost, i) =>
    lost < 0 ? [`generation ${gangs[i + 1]!.generation} leaves out ${-lost} steps`] : [],
  );
  const perEpoch = stepsPerEpoch({ ...task, worldSize: task.ranks, dropLast: false });
  const expected = expectedImages(task, perEpoch);
  problems.push(...lines.flatMap((line) => wrongLine(line, { task, perEpoch, expected })));
  problems.push(...missing(lines, { ...task, perEpoch, gangs }));
  return { problems, stepsLost };
}

interface Gang {
  readonly generation: number;
  /** Steps that it applied, `last` included. */
  readonly first: number;
  readonly last: number;
}

function gangOf(generation: number, lines: readonly SampleLine[]): Gang {
  const steps = lines.filter((line) => line.generation === generation).map(({ step }) => step);
  return { generation, first: Math.min(...steps), last: Math.max(...steps) };
}

/** Images by rank of the recipe and by epoch. */
function expectedImages(task: SampleTask, perEpoch: number) {
  const shares = new Map<string, Int32Array>();
  return (rank: number, step: number): Int32Array => {
    const epoch = Math.floor((step - 1) / perEpoch);
    const key = `${epoch}/${rank}`;
    const place = { rank, ranks: 1, worldSize: task.ranks };
    const share = shares.get(key) ?? epochIndices({ ...task, ...place, epoch });
    shares.set(key, share);
    const begin = ((step - 1) % perEpoch) * task.batchPerWorker;
    return share.subarray(begin, begin + task.batchPerWorker);
  };
}

interface Expectation {
  readonly task: SampleTask;
  readonly perEpoch: number;
  readonly expected: (rank: number, step: number) => Int32Array;
}

/** A worker of a smaller gang holds several ranks of the recipe, one after the other. */
function wrongLine(line: SampleLine, { task, perEpoch, expected }: Expectation): readonly string[] {
  const { generation, step, rank, epoch, images } = line;
  const each = expected(0, step).length;
  const held = images.length / each;
  const first = rank * held;
  const wanted = Array.from({ length: held }, (_, i) => [...expected(first + i, step)]).flat();
  const isRight =
    epoch === Math.floor((step - 1) / perEpoch) &&
    first + held <= task.ranks &&
    images.length === wanted.length &&
    images.every((image, i) => image === wanted[i]);
  if (isRight) return [];
  const where = `generation ${generation}, step ${step}, rank ${rank}`;
  return [`${where}: trained on [${images}], not [${wanted}]`];
}

/**
 * Ranks that left no line of a step. One that was killed right after its last step may have had no
 * time to write it down; the others of its gang have it then, and nobody did it again.
 */
function missing(
  lines: readonly SampleLine[],
  task: SampleTask & { readonly perEpoch: number; readonly gangs: readonly Gang[] },
): readonly string[] {
  const seen = new Map<number, Set<number>>();
  const lastSteps = new Set(task.gangs.map(({ last }) => last));
  for (const { step, rank, images } of lines) {
    const split = { ...task, worldSize: task.ranks, dropLast: false };
    const each = batchSizeAt(split, (step - 1) % task.perEpoch);
    const ranks = seen.get(step) ?? new Set();
    seen.set(step, ranks);
    const held = images.length / each;
    for (let i = 0; i < held; i++) ranks.add(rank * held + i);
  }
  const problems: string[] = [];
  for (let step = 1; step <= task.perEpoch * task.epochs; step++) {
    const ranks = seen.get(step)?.size ?? 0;
    if (ranks === task.ranks || (ranks > 0 && lastSteps.has(step))) continue;
    problems.push(`step ${step}: ${ranks} of ${task.ranks} ranks wrote down their images`);
  }
  return problems;
}
