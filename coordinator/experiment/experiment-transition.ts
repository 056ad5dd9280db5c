/** The steps that every rule of an experiment's life is made of. Pure. */

import {
  type Experiment,
  type ExperimentStep,
  HISTORY_LENGTH_MAX,
  type Phase,
  presentStage,
} from "./experiment.ts";

/** Every change of state passes here, so that none is missing in the history. */
export function enter(
  experiment: Experiment,
  phase: Phase,
  because: string,
  now: number,
): Experiment {
  const transition = {
    unixMs: now,
    from: experiment.phase.status,
    to: phase.status,
    stage: presentStage(experiment).name,
    generation: experiment.generation,
    because,
  };
  const history = [...experiment.history, transition].slice(-HISTORY_LENGTH_MAX);
  return { ...experiment, phase, history };
}

/** Nothing to do. */
export function stay(experiment: Experiment): ExperimentStep {
  return { experiment, effects: [] };
}

/** A step beyond all earlier ones is progress: the restart budget starts anew. */
export function reach(experiment: Experiment, step: number): Experiment {
  if (step <= experiment.furthestStep) return experiment;
  return { ...experiment, furthestStep: step, fruitlessRestarts: 0 };
}

/** The phase of an experiment whose `stage` is in the queue and not yet handed over by it. */
export function queued(stage: string): Phase {
  return { status: "waiting", reason: `waits for the queue to hand ${stage} over` };
}
