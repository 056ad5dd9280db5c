/** What operators can make an experiment do. Pure, as experiment-step.ts, which calls it. */

import { FleetError } from "../../proto/errors.ts";
import { type Experiment, type ExperimentStep, presentStage } from "./experiment.ts";
import { cancelled, GIVE_UP, KEEP, redirect, stop } from "./experiment-stopping.ts";
import { enter, queued, stay, withFullBudget } from "./experiment-transition.ts";

/**
 * Stops it for good, with a checkpoint; the second time without waiting for one.
 *
 * @throws {FleetError} STATE_CONFLICT
 */
export function cancel(experiment: Experiment, now: number): ExperimentStep {
  const { phase } = experiment;
  const because = "cancelled by an operator";
  switch (phase.status) {
    case "waiting":
    case "paused":
      return cancelled(experiment, because, now);
    case "forming":
    case "running":
      return stopKeeping(experiment, "cancel", because, now);
    case "stopping": {
      if (phase.aim === "cancel") return redirect(experiment, phase, { ...phase, mode: GIVE_UP });
      const mode = { ...phase.mode, keepCheckpoint: true };
      return redirect(experiment, phase, { aim: "cancel", because, mode });
    }
    case "succeeded":
    case "failed":
    case "cancelled":
      throw conflict(experiment, `cannot be cancelled: its state is ${phase.status}`);
  }
}

/**
 * Stops it with a checkpoint, until it is resumed.
 *
 * @throws {FleetError} STATE_CONFLICT
 */
export function pause(experiment: Experiment, now: number): ExperimentStep {
  const { phase } = experiment;
  const because = "paused by an operator";
  switch (phase.status) {
    case "waiting":
      return stay(enter(experiment, { status: "paused", because }, because, now));
    case "forming":
    case "running":
      return stopKeeping(experiment, "pause", because, now);
    case "stopping": {
      if (phase.aim === "pause") return stay(experiment);
      // What it ends with must not be hidden.
      if (phase.aim !== "restart") throw conflict(experiment, `is stopping: ${phase.because}`);
      const mode = { ...phase.mode, keepCheckpoint: true };
      return redirect(experiment, phase, { aim: "pause", because, mode });
    }
    case "paused":
    case "succeeded":
    case "failed":
    case "cancelled":
      throw conflict(experiment, `cannot be paused: its state is ${phase.status}`);
  }
}

/** @throws {FleetError} STATE_CONFLICT */
export function resume(experiment: Experiment, now: number): ExperimentStep {
  const { phase } = experiment;
  if (phase.status !== "paused") {
    throw conflict(experiment, `cannot be resumed: its state is ${phase.status}, not paused`);
  }
  const waiting = queued(presentStage(experiment).name);
  return stay(enter(withFullBudget(experiment), waiting, "resumed by an operator", now));
}

/** @throws {FleetError} STATE_CONFLICT */
export function retry(experiment: Experiment, now: number): ExperimentStep {
  const { phase } = experiment;
  if (phase.status !== "failed" && phase.status !== "cancelled") {
    const hint = phase.status === "paused" ? "; resume it" : "";
    const state = `its state is ${phase.status}, not failed or cancelled${hint}`;
    throw conflict(experiment, `cannot be retried: ${state}`);
  }
  const { finishedUnixMs: _, ...rest } = withFullBudget(experiment);
  const waiting = queued(presentStage(experiment).name);
  return {
    experiment: enter(rest, waiting, "retried by an operator", now),
    effects: [{ type: "requeue" }],
  };
}

function stopKeeping(
  experiment: Experiment,
  aim: "cancel" | "pause",
  because: string,
  now: number,
): ExperimentStep {
  const { phase } = experiment;
  if (phase.status !== "forming" && phase.status !== "running") return stay(experiment);
  return stop(experiment, phase, {
    aim,
    cause: "membership",
    mode: KEEP,
    because,
    failures: [],
    left: [],
    lostContacts: [],
    now,
  });
}

function conflict({ id }: Experiment, problem: string): FleetError {
  return new FleetError("STATE_CONFLICT", `${id} ${problem}`);
}
