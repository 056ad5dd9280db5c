/**
 * The rules of an experiment's life: one event in, the next state and what has to be done out.
 *
 * Pure: no clock, no I/O. Every message of a worker may be late, doubled or of an older generation;
 * such an event gives back the same object and no effects. Impossible events fail an assert.
 */

import assert from "node:assert/strict";
import { FleetError } from "../../proto/errors.ts";
import {
  type Experiment,
  type ExperimentEffect,
  type ExperimentEvent,
  type ExperimentStep,
  type Failure,
  presentStage,
} from "./experiment.ts";
import {
  type Active,
  cancelled,
  describe,
  type EventOf,
  type GangEvent,
  isFatal,
  stop,
  toFailure,
  whileStopping,
} from "./experiment-stopping.ts";
import { enter, queued, reach, stay } from "./experiment-transition.ts";

/**
 * Applies one event.
 *
 * @param now unix time in ms, for the history
 * @throws {FleetError} STATE_CONFLICT when the state does not allow a `cancel` or `retry`
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
    case "progress":
    case "result":
    case "failure":
    case "left":
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
      return failed(experiment, phase, event, now);
    case "left":
      return left(experiment, phase, event, now);
  }
}

function assigned(experiment: Experiment, event: EventOf<"assigned">, now: number): ExperimentStep {
  const stage = presentStage(experiment);
  assert.equal(experiment.phase.status, "waiting", `${experiment.id} was assigned twice`);
  assert.equal(event.gang.length, stage.workers, `${experiment.id} got a gang of the wrong size`);
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
    `${gang.length} workers are free`,
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
  const reported = reach({ ...experiment, progress: event.progress }, event.progress.step);
  if (phase.status === "running") return stay(reported);
  return stay(run(reported, phase, now));
}

function run(experiment: Experiment, phase: Active, now: number): Experiment {
  const running: Active = { status: "running", gang: phase.gang, finished: [] };
  return enter(experiment, running, `all ${phase.gang.length} ranks have connected`, now);
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
  const { progress: _, ...rest } = waiting;
  return {
    experiment: {
      ...rest,
      stageIndex: experiment.stageIndex + 1,
      furthestStep: 0,
      fruitlessRestarts: 0,
    },
    effects,
  };
}

function failed(
  experiment: Experiment,
  phase: Active,
  event: EventOf<"failure">,
  now: number,
): ExperimentStep {
  const failure = toFailure(phase.gang, event);
  const aim = isFatal(failure.code) ? "fail" : "restart";
  const because = describe(failure);
  const reached = reach(experiment, event.step);
  return stop(reached, phase, { aim, because, failures: [failure], left: [], now });
}

function left(
  experiment: Experiment,
  phase: Active,
  event: EventOf<"left">,
  now: number,
): ExperimentStep {
  const rank = phase.gang.indexOf(event.worker);
  // A member that has delivered its result may go, even for ever.
  if (phase.status === "running" && phase.finished.includes(rank)) return stay(experiment);

  const because = `rank ${rank} (${event.worker}) left: ${event.because}`;
  const failure: Failure = {
    code: "GENERATION_ABORTED",
    message: event.because,
    rank,
    unixMs: now,
  };
  const reached = reach(experiment, event.step ?? 0);
  return stop(reached, phase, {
    aim: "restart",
    because,
    failures: [failure],
    left: [event.worker],
    now,
  });
}

function cancel(experiment: Experiment, now: number): ExperimentStep {
  const { phase } = experiment;
  const because = "cancelled by an operator";
  switch (phase.status) {
    case "waiting":
      return cancelled(experiment, because, now);
    case "forming":
    case "running":
      return stop(experiment, phase, { aim: "cancel", because, failures: [], left: [], now });
    case "stopping":
      return stay({ ...experiment, phase: { ...phase, aim: "cancel", because } });
    case "succeeded":
    case "failed":
    case "cancelled":
      throw new FleetError(
        "STATE_CONFLICT",
        `${experiment.id} cannot be cancelled: its state is ${phase.status}`,
      );
  }
}

function retry(experiment: Experiment, now: number): ExperimentStep {
  const { phase } = experiment;
  if (phase.status !== "failed" && phase.status !== "cancelled") {
    throw new FleetError(
      "STATE_CONFLICT",
      `${experiment.id} cannot be retried: its state is ${phase.status}, not failed or cancelled`,
    );
  }
  const { finishedUnixMs: _, ...rest } = experiment;
  const waiting = enter(
    { ...rest, fruitlessRestarts: 0 },
    queued(presentStage(experiment).name),
    "retried by an operator",
    now,
  );
  return { experiment: waiting, effects: [{ type: "requeue" }] };
}
