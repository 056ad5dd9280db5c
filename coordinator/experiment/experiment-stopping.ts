/**
 * How a gang is taken apart: told to stop, waited for, and what follows when all members have left.
 * Pure, as experiment-step.ts, which calls it.
 */

import assert from "node:assert/strict";
import { ERROR_SPECS, type ErrorCode } from "../../proto/errors.ts";
import {
  type Experiment,
  type ExperimentEffect,
  type ExperimentEvent,
  type ExperimentStep,
  type Failure,
  type Phase,
  presentStage,
  RESTARTS_WITHOUT_PROGRESS_MAX,
} from "./experiment.ts";
import { enter, reach, stay } from "./experiment-transition.ts";

/** The phases in which members hold the present generation and were not told to leave it. */
export type Active = Extract<Phase, { status: "forming" | "running" }>;
export type EventOf<Type> = Extract<ExperimentEvent, { type: Type }>;
/** What the members of a gang tell of it. */
export type GangEvent = EventOf<"progress" | "result" | "failure" | "left">;
type Stopping = Extract<Phase, { status: "stopping" }>;

interface Stop {
  readonly aim: Stopping["aim"];
  readonly because: string;
  readonly failures: readonly Failure[];
  /** Members that need not be told, because they are out already. */
  readonly left: readonly string[];
  readonly now: number;
}

/** Tells the members to leave; ends at once when none is left to wait for. */
export function stop(experiment: Experiment, phase: Active, cause: Stop): ExperimentStep {
  const finishedRanks = phase.status === "running" ? phase.finished : [];
  const done = phase.gang.filter((_, rank) => finishedRanks.includes(rank));
  const gone = [...new Set([...cause.left, ...done])];
  const { generation } = experiment;
  const stopping: Stopping = {
    status: "stopping",
    gang: phase.gang,
    left: gone,
    aim: cause.aim,
    because: cause.because,
    failures: cause.failures,
  };
  const workers = phase.gang.filter((worker) => !gone.includes(worker));
  const effects: ExperimentEffect[] =
    workers.length > 0 ? [{ type: "abort", generation, workers, because: cause.because }] : [];

  // What rank 0 may have delivered is not the result of a stage that all have finished.
  const { [presentStage(experiment).name]: _, ...results } = experiment.results;
  const stopped = enter({ ...experiment, results }, stopping, cause.because, cause.now);
  const ended = endIfAllLeft(stopped, stopping, cause.now);
  return { experiment: ended.experiment, effects: [...effects, ...ended.effects] };
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
      return stay(reach(experiment, event.progress.step));

    case "failure": {
      const failure = toFailure(phase.gang, event);
      const aim = phase.aim === "restart" && isFatal(failure.code) ? "fail" : phase.aim;
      const failures = [...phase.failures, failure];
      return stay({ ...experiment, phase: { ...phase, failures, aim } });
    }

    case "result":
    case "left": {
      // A result that crossed with the abort: this member is out, its stage has to go on.
      const left = [...new Set([...phase.left, event.worker])];
      const next: Stopping = { ...phase, left };
      const step = event.type === "left" ? (event.step ?? 0) : 0;
      const released: ExperimentEffect[] =
        event.type === "left"
          ? []
          : [{ type: "release", generation: event.generation, worker: event.worker }];
      const ended = endIfAllLeft(reach({ ...experiment, phase: next }, step), next, now);
      return { experiment: ended.experiment, effects: [...released, ...ended.effects] };
    }
  }
}

function endIfAllLeft(experiment: Experiment, phase: Stopping, now: number): ExperimentStep {
  if (phase.left.length < phase.gang.length) return stay(experiment);
  switch (phase.aim) {
    case "cancel":
      return cancelled(experiment, phase.because, now);
    case "fail":
      return fail(experiment, phase, "", now);
    case "restart":
      return restart(experiment, phase, now);
  }
}

function restart(experiment: Experiment, phase: Stopping, now: number): ExperimentStep {
  if (experiment.fruitlessRestarts >= RESTARTS_WITHOUT_PROGRESS_MAX) {
    const tries = `${experiment.fruitlessRestarts} restarts made no progress; `;
    return fail(experiment, phase, tries, now);
  }
  const waiting = enter(
    {
      ...experiment,
      restarts: experiment.restarts + 1,
      fruitlessRestarts: experiment.fruitlessRestarts + 1,
    },
    { status: "waiting", reason: `restarts, because ${phase.because}` },
    "all members have left the generation",
    now,
  );
  return stay(waiting);
}

function fail(
  experiment: Experiment,
  phase: Stopping,
  prefix: string,
  now: number,
): ExperimentStep {
  const root = rootCause(phase.failures);
  const message = `${prefix}${describe(root)}`;
  const failed = enter(experiment, { status: "failed", code: root.code, message }, message, now);
  return {
    experiment: { ...failed, finishedUnixMs: now },
    effects: [{ type: "stage-ended", stage: presentStage(experiment).name }],
  };
}

/** The end of an experiment that nobody holds any more. */
export function cancelled(experiment: Experiment, because: string, now: number): ExperimentStep {
  const ended = enter(experiment, { status: "cancelled" }, because, now);
  return {
    experiment: { ...ended, finishedUnixMs: now },
    effects: [{ type: "stage-ended", stage: presentStage(experiment).name }],
  };
}

/**
 * The failure that the others follow from: the earliest, and a fatal one before those that only saw
 * the gang break, since the members' clocks differ.
 */
function rootCause(failures: readonly Failure[]): Failure {
  const byTime = failures.toSorted((a, b) => a.unixMs - b.unixMs);
  const root = byTime.find((failure) => isFatal(failure.code)) ?? byTime[0];
  assert.ok(root, "an experiment fails for a reason");
  return root;
}

/** Whether another generation would meet the same failure. */
export function isFatal(code: ErrorCode): boolean {
  const { remedy } = ERROR_SPECS[code];
  return remedy === "user" || remedy === "none";
}

export function describe(failure: Failure): string {
  return `rank ${failure.rank}: ${failure.code}: ${failure.message}`;
}

export function toFailure(gang: readonly string[], event: EventOf<"failure">): Failure {
  const { code, message, unixMs } = event;
  return { code, message, unixMs, rank: gang.indexOf(event.worker) };
}
