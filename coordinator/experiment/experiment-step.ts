/**
 * The rules of an experiment's life: one event in, the next state and what has to be done out.
 *
 * Pure: no clock, no I/O. Every message of a worker may be late, doubled or of an older generation;
 * such an event gives back the same object and no effects. Impossible events fail an assert.
 */

import assert from "node:assert/strict";
import { addToCurves } from "./curves.ts";
import {
  type Experiment,
  type ExperimentEffect,
  type ExperimentEvent,
  type ExperimentStep,
  presentStage,
} from "./experiment.ts";
import {
  type Active,
  type EventOf,
  type GangEvent,
  GIVE_UP,
  overdue,
  redirect,
  stop,
  stopFor,
  whileStopping,
} from "./experiment-stopping.ts";
import {
  advance,
  enter,
  note,
  queued,
  reach,
  stay,
  withFullBudget,
} from "./experiment-transition.ts";
import { cancel, pause, resume, retry } from "./operator-verbs.ts";
import type { Phase } from "./phase.ts";
import { witnessProgress } from "./witness.ts";

/**
 * Applies one event.
 *
 * @param now unix time in ms, for the timeline
 * @throws {FleetError} STATE_CONFLICT when the state does not allow what an operator asks
 */
export function step(experiment: Experiment, event: ExperimentEvent, now: number): ExperimentStep {
  switch (event.type) {
    case "assigned":
      return assigned(experiment, event, now);
    case "still-waiting":
      return stillWaiting(experiment, event.reason);
    case "cancel":
      return cancel(experiment, now);
    case "retry":
      return retry(experiment, now);
    case "pause":
      return pause(experiment, now);
    case "resume":
      return resume(experiment, now);
    case "reform":
      return reform(experiment, event, now);
    case "stop-overdue":
      return overdue(experiment, event.afterMs, now);
    case "noted": {
      const { type: _, occurrence, ...happened } = event;
      return stay(note(experiment, occurrence, { ...happened, now }));
    }
    case "progress":
    case "result":
    case "failure":
    case "left":
    case "lost":
      return fromMember(experiment, event, now);
  }
}

function fromMember(experiment: Experiment, event: GangEvent, now: number): ExperimentStep {
  const { phase } = experiment;
  if (event.generation !== experiment.generation) return stay(experiment);
  if (!("gang" in phase) || !phase.gang.includes(event.worker)) return stay(experiment);
  if (phase.status === "stopping") return whileStopping(experiment, phase, event, now);
  switch (event.type) {
    case "progress":
      return progressed(experiment, phase, event, now);
    case "result":
      return finished(experiment, phase, event, now);
    case "failure":
      return stopFor(reach(experiment, event.step), phase, event, now);
    case "left":
    case "lost":
      return gone(experiment, phase, event, now);
  }
}

function assigned(experiment: Experiment, event: EventOf<"assigned">, now: number): ExperimentStep {
  const stage = presentStage(experiment);
  assert.equal(experiment.phase.status, "waiting", `${experiment.id} was assigned twice`);
  const size = event.gang.length;
  assert.ok(stage.sizes.includes(size), `${experiment.id} got a gang of the wrong size`);
  assert.ok(event.generation > experiment.generation, "generations must increase");

  const { generation, gang } = event;
  const forming = enter(
    {
      ...experiment,
      generation,
      lastGang: gang,
      startedUnixMs: experiment.startedUnixMs ?? now,
    },
    { status: "forming", gang },
    size < stage.ranks
      ? `goes on with ${size} of ${stage.ranks} workers`
      : `${size} workers are free`,
    now,
  );
  return {
    experiment: forming,
    effects: [{ type: "assign", generation, stage: stage.name, gang }],
  };
}

function stillWaiting(experiment: Experiment, reason: string): ExperimentStep {
  const { phase } = experiment;
  if (phase.status !== "waiting" || phase.reason === reason) return stay(experiment);
  return stay({ ...experiment, phase: { status: "waiting", reason } });
}

function progressed(
  experiment: Experiment,
  phase: Active,
  event: EventOf<"progress">,
  now: number,
): ExperimentStep {
  // Only rank 0 speaks for the gang.
  if (phase.gang[0] !== event.worker) return stay(experiment);
  if (event.progress.stage !== presentStage(experiment).name) return stay(experiment);
  // A new gang knows of no checkpoint until it has written one; those before it are still there.
  const { checkpointStep } = experiment.progress ?? {};
  const progress = { ...(checkpointStep ? { checkpointStep } : {}), ...event.progress };
  const curves = addToCurves(experiment.curves, progress);
  const seen = { ...witnessProgress(experiment, progress, now), progress, curves };
  if (phase.status === "running") return stay(advance(seen, progress));
  return stay(advance(run(resumed(seen, progress.step, now), phase, now), progress));
}

/** A later generation's first report tells which steps have to be done again. */
function resumed(experiment: Experiment, firstStep: number, now: number): Experiment {
  const { furthestStep, lostSteps } = experiment;
  if (furthestStep === 0) return experiment;
  const lost = Math.max(0, furthestStep + 1 - firstStep);
  const again = `${lost} ${lost === 1 ? "step has" : "steps have"} to be done again`;
  const message = `goes on with step ${firstStep}, had come to ${furthestStep}: ${again}`;
  const noted = note(experiment, "resumed", { message, step: firstStep, now });
  return { ...noted, lostSteps: lostSteps + lost };
}

function run(experiment: Experiment, { gang }: Active, now: number): Experiment {
  const settled = { generation: experiment.generation, size: gang.length };
  const running: Active = { status: "running", gang, finished: [] };
  return enter({ ...experiment, settled }, running, `all ${gang.length} ranks have connected`, now);
}

function finished(
  experiment: Experiment,
  phase: Active,
  event: EventOf<"result">,
  now: number,
): ExperimentStep {
  if (phase.status === "forming") {
    // A stage that resumes at its very end has no step left to report.
    const running = run(experiment, phase, now);
    assert.ok(running.phase.status === "running");
    return finished(running, running.phase, event, now);
  }

  const rank = phase.gang.indexOf(event.worker);
  const ranks = [...new Set([...phase.finished, rank])];
  const { name } = presentStage(experiment);
  const isFirst = rank === 0 && event.resultJson !== undefined;
  const results = isFirst
    ? { ...experiment.results, [name]: event.resultJson }
    : experiment.results;
  const reported: Experiment = { ...experiment, results, phase: { ...phase, finished: ranks } };
  const release: ExperimentEffect = {
    type: "release",
    generation: event.generation,
    worker: event.worker,
  };
  if (ranks.length < phase.gang.length) return { experiment: reported, effects: [release] };
  const done = stageDone(reported, phase.gang.length, now);
  return { experiment: done.experiment, effects: [release, ...done.effects] };
}

function stageDone(experiment: Experiment, worldSize: number, now: number): ExperimentStep {
  const { name } = presentStage(experiment);
  const next = experiment.stages[experiment.stageIndex + 1];
  const effects: ExperimentEffect[] = [{ type: "stage-ended", stage: name }];
  const because = `all ${worldSize} ranks have finished ${name}`;
  if (next === undefined) {
    const succeeded = enter(experiment, { status: "succeeded" }, because, now);
    return { experiment: { ...succeeded, finishedUnixMs: now }, effects };
  }

  const waiting = enter(experiment, queued(next.name), because, now);
  const { progress: _, settled: __, ...rest } = waiting;
  return {
    experiment: {
      ...withFullBudget(rest),
      stageIndex: experiment.stageIndex + 1,
      furthestStep: 0,
    },
    effects,
  };
}

function gone(
  experiment: Experiment,
  phase: Active,
  event: EventOf<"left" | "lost">,
  now: number,
): ExperimentStep {
  const rank = phase.gang.indexOf(event.worker);
  // A member that has delivered its result may go, even for ever.
  if (phase.status === "running" && phase.finished.includes(rank)) return stay(experiment);
  const reached = event.type === "left" ? reach(experiment, event.step) : experiment;
  return stopFor(reached, phase, event, now);
}

/** A worker that has to leave, or a change of size, is nobody's failure. */
function reform(experiment: Experiment, event: EventOf<"reform">, now: number): ExperimentStep {
  const { generation, cause, because, keepCheckpoint, drained } = event;
  const { phase } = experiment;
  if (generation !== experiment.generation || !("gang" in phase)) return stay(experiment);
  const rank = drained === undefined ? -1 : phase.gang.indexOf(drained);
  const isStranger = drained !== undefined && rank < 0;
  if (isStranger) return stay(experiment);
  const seen =
    drained === undefined
      ? experiment
      : note(experiment, "worker-drains", { message: because, now, rank, worker: drained });
  if (phase.status === "stopping") {
    const excused = { ...excuse(phase, cause, because), ...drains(event, phase.drained) };
    return redirect({ ...seen, phase: excused }, excused, {
      ...excused,
      mode: { ...phase.mode, keepCheckpoint: phase.mode.keepCheckpoint || keepCheckpoint },
    });
  }
  return stop(seen, phase, {
    aim: "restart",
    cause,
    because,
    mode: { ...GIVE_UP, atStepBoundary: true, keepCheckpoint },
    failures: [],
    left: [],
    lostContacts: [],
    ...drains(event),
    now,
  });
}

/** Who is to be sent away; a worker that its machine sends away needs nobody else for that. */
function drains({ drained, cause }: EventOf<"reform">, earlier: readonly string[] = []) {
  const isSentAway = drained !== undefined && cause === "membership";
  return isSentAway ? { drained: [...new Set([...earlier, drained])] } : {};
}

type Stopping = Extract<Phase, { status: "stopping" }>;

/**
 * Peers of a worker that leaves may be heard before it. What they saw is no failure then, unless
 * somebody has met an error of its own, or is gone.
 */
function excuse(phase: Stopping, cause: Stopping["cause"], because: string): Stopping {
  const isFailure = phase.failures.some(({ kind }) => kind !== "left");
  if (phase.aim !== "restart" || phase.cause !== "failure" || isFailure) return phase;
  return { ...phase, cause, because };
}
