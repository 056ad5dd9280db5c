/** The steps that every rule of an experiment's life is made of. Pure. */

import {
  type Experiment,
  type ExperimentStep,
  isFinished,
  presentStage,
  type StageProgress,
} from "./experiment.ts";
import { creditSteps, runWallTime } from "./goodput.ts";
import type { Phase } from "./phase.ts";
import { type About, addEntry, type Occurrence } from "./timeline.ts";

/** Every change of state passes here, so that none is missing in the timeline. */
export function enter(
  experiment: Experiment,
  phase: Phase,
  because: string,
  now: number,
): Experiment {
  const timeline = addEntry(experiment.timeline, {
    ...where(experiment, now),
    type: "state",
    from: experiment.phase.status,
    to: phase.status,
    message: because,
  });
  const entered: Experiment = { ...experiment, phase, timeline };
  const hasStarted = entered.startedUnixMs !== undefined;
  const runs = hasStarted && phase.status !== "paused" && !isFinished(entered);
  const goodput = runWallTime(entered.goodput, { runs, now });
  return goodput ? { ...entered, goodput } : entered;
}

/** Writes down what has happened beside changes of state. */
export function note(
  experiment: Experiment,
  type: Occurrence,
  happened: { readonly message: string; readonly now: number } & About,
): Experiment {
  const { now, ...entry } = happened;
  const timeline = addEntry(experiment.timeline, { ...where(experiment, now), ...entry, type });
  return { ...experiment, timeline };
}

function where(experiment: Experiment, now: number) {
  const { generation } = experiment;
  return { unixMs: now, stage: presentStage(experiment).name, generation };
}

/** Nothing to do. */
export function stay(experiment: Experiment): ExperimentStep {
  return { experiment, effects: [] };
}

/** A step beyond all earlier ones is progress: the restart budget starts anew. */
export function reach(experiment: Experiment, step: number): Experiment {
  if (step <= experiment.furthestStep) return experiment;
  return { ...withFullBudget(experiment), furthestStep: step };
}

/** Takes a report of rank 0 for what it has come to, and credits the time that it took. */
export function advance(experiment: Experiment, progress: StageProgress): Experiment {
  const { generation, furthestStep, goodput } = experiment;
  const { step, trainingSeconds } = progress;
  const reached = reach(experiment, step);
  if (trainingSeconds === undefined || goodput === undefined) return reached;
  const report = { generation, step, trainingSeconds, furthestStep };
  return { ...reached, goodput: creditSteps(goodput, report) };
}

/** The experiment as one that has not failed since its last new step. */
export function withFullBudget(experiment: Experiment): Experiment {
  const { firstCause: _, ...rest } = experiment;
  return { ...rest, fruitlessRestarts: 0 };
}

/** The phase of an experiment whose `stage` is in the queue and not yet handed over by it. */
export function queued(stage: string): Phase {
  return { status: "waiting", reason: `waits for the queue to hand ${stage} over` };
}
