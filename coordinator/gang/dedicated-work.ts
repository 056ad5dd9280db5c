/**
 * When the work that a worker is dedicated to is over; a pause is no end of it. Pure: it is read
 * off the experiments' records, so that a coordinator that has taken over comes to the same result.
 */

import type { StageName } from "../../proto/recipe.ts";
import { type Experiment, isFinished } from "../experiment/experiment.ts";
import { historyOf } from "../experiment/timeline.ts";
import { nameDedication } from "../member/dedication.ts";
import type { WorkerFacts } from "../member/member.ts";

/** What is known of the experiments. */
export interface Records {
  readonly find: (id: string) => Experiment | undefined;
  readonly all: () => readonly Experiment[];
}

/**
 * Why a worker that leaves when its work is over can go; undefined while there may be more for it.
 * Without an experiment of its own it waits for the first end of such a stage that it lives to see.
 */
export function whyOver(
  { dedication, sinceUnixMs }: Pick<WorkerFacts, "dedication" | "sinceUnixMs">,
  records: Records,
): string | undefined {
  if (!dedication?.leaveWhenOver) return undefined;
  const { experimentId, stage } = dedication;
  if (experimentId !== undefined) {
    const experiment = records.find(experimentId);
    if (experiment && endOf(experiment, stage) === undefined) return undefined;
    return `${nameDedication(dedication)} is over`;
  }
  const ended = records.all().find((experiment) => {
    const endUnixMs = hasStage(experiment, stage) ? endOf(experiment, stage) : undefined;
    return endUnixMs !== undefined && endUnixMs >= sinceUnixMs;
  });
  return ended && `${nameDedication({ ...dedication, experimentId: ended.id })} is over`;
}

function hasStage({ stages }: Experiment, stage: StageName | undefined): boolean {
  return stage === undefined || stages.some(({ name }) => name === stage);
}

/** When the stage, or without one the experiment, came to its end; undefined until it has. */
function endOf(experiment: Experiment, stage: StageName | undefined): number | undefined {
  const { stages, stageIndex, submittedUnixMs } = experiment;
  const { finishedUnixMs = submittedUnixMs } = experiment;
  if (stage !== undefined && stages.findIndex(({ name }) => name === stage) < stageIndex) {
    const end = historyOf(experiment.timeline).findLast(
      (change) => change.stage === stage && change.from === "running" && change.to === "waiting",
    );
    // Without a word of it that was long ago, or the recipe has no such stage.
    return end?.unixMs ?? submittedUnixMs;
  }
  return isFinished(experiment) ? finishedUnixMs : undefined;
}
