/**
 * How a gang is taken apart: told to stop, waited for, and what follows when all members have left.
 * Pure, as experiment-step.ts, which calls it.
 */

import {
  type Experiment,
  type ExperimentEffect,
  type ExperimentEvent,
  type ExperimentStep,
  holdersOf,
  presentStage,
} from "./experiment.ts";
import { advance, enter, note, reach, stay } from "./experiment-transition.ts";
import { describe, isFatal, lostContactsOf, rootCause, toFailure } from "./failures.ts";
import type { Failure, LostContact, Phase, RestartCause, StopMode } from "./phase.ts";
import { witness } from "./witness.ts";

/** The phases in which members hold the present generation and were not told to leave it. */
export type Active = Extract<Phase, { status: "forming" | "running" }>;
export type EventOf<Type> = Extract<ExperimentEvent, { type: Type }>;
/** What the members of a gang tell of it. */
export type GangEvent = EventOf<"progress" | "result" | "failure" | "left" | "lost">;
type Stopping = Extract<Phase, { status: "stopping" }>;

interface Stop {
  readonly aim: Stopping["aim"];
  readonly cause: RestartCause;
  readonly mode: StopMode;
  readonly because: string;
  readonly failures: readonly Failure[];
  /** Members that need not be told, because they are out already. */
  readonly left: readonly string[];
  readonly lostContacts: readonly LostContact[];
  readonly drained?: readonly string[];
  readonly now: number;
}

/** The step under way is lost anyway, and every member holds the state after the one before. */
export const GIVE_UP: StopMode = { atStepBoundary: false, keepCheckpoint: false };
/** For a stop after which nobody may hold the state in memory. */
export const KEEP: StopMode = { atStepBoundary: true, keepCheckpoint: true };

/** Tells the members to leave; ends at once when none is left to wait for. */
export function stop(experiment: Experiment, phase: Active, request: Stop): ExperimentStep {
  const { now, left, ...cause } = request;
  const finishedRanks = phase.status === "running" ? phase.finished : [];
  const done = phase.gang.filter((_, rank) => finishedRanks.includes(rank));
  const stopping: Stopping = {
    status: "stopping",
    gang: phase.gang,
    left: [...new Set([...left, ...done])],
    ...cause,
  };
  // What rank 0 may have delivered is not the result of a stage that all have finished.
  const { [presentStage(experiment).name]: _, ...results } = experiment.results;
  const stopped = enter({ ...experiment, results }, stopping, cause.because, now);
  const ended = endIfAllLeft(stopped, now);
  return { experiment: ended.experiment, effects: [...abort(stopped), ...ended.effects] };
}

/** Ends a gang because of a failure; one that another gang would meet ends the experiment. */
export function stopFor(
  experiment: Experiment,
  phase: Active,
  event: EventOf<"failure" | "left" | "lost">,
  now: number,
): ExperimentStep {
  const failure = toFailure(phase.gang, event, now);
  const aim = isFatal(failure.code) ? "fail" : "restart";
  const isLastTry = experiment.fruitlessRestarts >= experiment.maxRestarts;
  const keepCheckpoint = aim === "fail" || isLastTry;
  return stop(witness(experiment, event, now), phase, {
    aim,
    cause: "failure",
    mode: { ...GIVE_UP, keepCheckpoint },
    because: describe(failure),
    failures: [failure],
    left: event.type === "failure" ? [] : [event.worker],
    lostContacts: event.type === "left" ? lostContactsOf(phase.gang, event) : [],
    now,
  });
}

/** A member's message that arrives while the gang is stopping. */
export function whileStopping(
  experiment: Experiment,
  phase: Stopping,
  event: GangEvent,
  now: number,
): ExperimentStep {
  switch (event.type) {
    case "progress":
      return stay(advance(experiment, event.progress));

    case "result": {
      // It crossed with the abort: this member is out, its stage has to go on.
      const { generation, worker } = event;
      const ended = leave(experiment, phase, worker, now);
      const release: ExperimentEffect = { type: "release", generation, worker };
      return { experiment: ended.experiment, effects: [release, ...ended.effects] };
    }

    case "failure": {
      const seen = witness(reach(experiment, event.step), event, now);
      return giveUp(seen, blame(phase, toFailure(phase.gang, event, now)));
    }

    case "lost": {
      if (phase.left.includes(event.worker)) return stay(experiment);
      const seen = witness(experiment, event, now);
      const without: Stopping = { ...phase, left: [...phase.left, event.worker] };
      // Nobody comes to the end of a step without all the others.
      const given = giveUp(seen, blame(without, toFailure(phase.gang, event, now)));
      const ended = endIfAllLeft(given.experiment, now);
      return { experiment: ended.experiment, effects: [...given.effects, ...ended.effects] };
    }

    case "left": {
      if (phase.left.includes(event.worker)) return stay(experiment);
      const lostContacts = [...phase.lostContacts, ...lostContactsOf(phase.gang, event)];
      const seen = witness(reach(experiment, event.step), event, now);
      return leave(seen, { ...phase, lostContacts }, event.worker, now);
    }
  }
}

/** Ends the stop of a gang that has not come to a step boundary in time by giving the step up. */
export function overdue(experiment: Experiment, afterMs: number, now: number): ExperimentStep {
  const { phase } = experiment;
  if (phase.status !== "stopping" || !phase.mode.atStepBoundary) return stay(experiment);
  const message = `the gang has not stopped at a step boundary in ${afterMs} ms: gives the step up`;
  return giveUp(note(experiment, "stop-overdue", { message, now }), phase);
}

/** Gives a gang that is stopping another aim; its members are told if that changes how. */
export function redirect(
  experiment: Experiment,
  phase: Stopping,
  to: Pick<Stopping, "aim" | "because" | "mode">,
): ExperimentStep {
  const next: Experiment = { ...experiment, phase: { ...phase, ...to } };
  const isTold =
    phase.mode.atStepBoundary === to.mode.atStepBoundary &&
    phase.mode.keepCheckpoint === to.mode.keepCheckpoint;
  return { experiment: next, effects: isTold ? [] : abort(next) };
}

/** Adds a failure to those of a gang that is stopping, which may change what that leads to. */
function blame(phase: Stopping, failure: Failure): Stopping {
  const failures = [...phase.failures, failure];
  if (phase.aim !== "restart") return { ...phase, failures };
  const aim = isFatal(failure.code) ? "fail" : "restart";
  const isOwnFault = failure.code !== "GENERATION_ABORTED";
  const cause = isOwnFault ? "failure" : phase.cause;
  const because = cause === "failure" ? describe(rootCause(failures)) : phase.because;
  return { ...phase, failures, aim, cause, because };
}

/** No step boundary will be reached any more: tells those members who wait for one. */
function giveUp(experiment: Experiment, phase: Stopping): ExperimentStep {
  const mode = { ...phase.mode, atStepBoundary: false };
  const keepCheckpoint = phase.aim === "fail" || mode.keepCheckpoint;
  const { aim, because } = phase;
  return redirect(experiment, phase, { aim, because, mode: { ...mode, keepCheckpoint } });
}

function leave(
  experiment: Experiment,
  phase: Stopping,
  worker: string,
  now: number,
): ExperimentStep {
  const left = [...new Set([...phase.left, worker])];
  return endIfAllLeft({ ...experiment, phase: { ...phase, left } }, now);
}

/**
 * The members whom at least half of the others have lost contact with, and who have not left the
 * generation. One whose own connection is broken, too, will not come back to it.
 */
export function forsakenOf(experiment: Experiment): readonly string[] {
  const { phase } = experiment;
  if (phase.status !== "stopping" || phase.lostContacts.length === 0) return [];
  const others = phase.gang.length - 1;
  return [...holdersOf(experiment)].flatMap(([worker, rank]) => {
    const accusers = phase.lostContacts.filter(({ of }) => of === rank).length;
    return accusers > 0 && 2 * accusers >= others ? [worker] : [];
  });
}

/** Tells whoever still holds the generation of a stopping gang. */
function abort(experiment: Experiment): readonly ExperimentEffect[] {
  const { phase, generation } = experiment;
  const workers = [...holdersOf(experiment).keys()];
  if (phase.status !== "stopping" || workers.length === 0) return [];
  const { because, mode } = phase;
  return [{ type: "abort", generation, workers, because, ...mode }];
}

function endIfAllLeft(experiment: Experiment, now: number): ExperimentStep {
  const { phase } = experiment;
  if (phase.status !== "stopping" || phase.left.length < phase.gang.length) return stay(experiment);
  const { because } = phase;
  switch (phase.aim) {
    case "cancel":
      return cancelled(experiment, because, now);
    case "pause":
      return stay(enter(experiment, { status: "paused", because }, because, now));
    case "fail":
      return fail(experiment, rootCause(phase.failures), "", now);
    case "restart":
      return restart(experiment, phase, now);
  }
}

function restart(experiment: Experiment, phase: Stopping, now: number): ExperimentStep {
  const { cause, because } = phase;
  const isFailure = cause === "failure";
  const root = isFailure ? rootCause(phase.failures) : undefined;
  const firstCause = experiment.firstCause ?? root;
  const { fruitlessRestarts, furthestStep, restarts, maxRestarts } = experiment;
  if (root && firstCause && fruitlessRestarts >= maxRestarts) {
    const tries = `${fruitlessRestarts} restarts made no progress; `;
    return fail(experiment, firstCause, fruitlessRestarts > 0 ? tries : "", now);
  }
  const counted: Experiment = {
    ...experiment,
    restarts: { ...restarts, [cause]: restarts[cause] + 1 },
    ...(isFailure ? { fruitlessRestarts: fruitlessRestarts + 1 } : {}),
    ...(firstCause ? { firstCause } : {}),
  };
  const message = `${cause}: ${because}`;
  const noted = note(counted, "restart", { message, step: furthestStep, now });
  const waiting: Phase = { status: "waiting", reason: `restarts, because ${because}` };
  return stay(enter(noted, waiting, "all members have left the generation", now));
}

function fail(experiment: Experiment, root: Failure, prefix: string, now: number): ExperimentStep {
  const message = `${prefix}${describe(root)}`;
  const failed = enter(experiment, { status: "failed", code: root.code, message }, message, now);
  return {
    experiment: { ...failed, finishedUnixMs: now },
    effects: [{ type: "stage-ended", stage: presentStage(experiment).name }],
  };
}

/** The end of an experiment that nobody holds any more. */
export function cancelled(experiment: Experiment, because: string, now: number): ExperimentStep {
  const ended = enter(experiment, { status: "cancelled", because }, because, now);
  return {
    experiment: { ...ended, finishedUnixMs: now },
    effects: [{ type: "stage-ended", stage: presentStage(experiment).name }],
  };
}
