/**
 * Which worker Jobs are to be created and deleted. Pure.
 *
 * The stage that an experiment is in has Jobs for as many workers as it may have, from its
 * turn to its end, except while it is paused; no other stage has any. What a Job has lost
 * for good is made up for by another one: workers that have left, or the whole of it, since it
 * failed or is complete. That happens after a pause which doubles each time; where Jobs have failed
 * {@link FAILURES_MAX} times a person has to help first. Failed Jobs stay until the stage ends, for
 * people, and for this count: so it survives a restart of the coordinator.
 *
 * Experiments take turns at getting workers. Kubernetes starts pods one by one, and two gangs that
 * have half of their pods each would wait for one another for ever; so of the experiments without a
 * gang only the one that goes first has Jobs. Jobs that a queue holds back take no part in that.
 */

import type { StageName } from "../../proto/recipe.ts";
import { type Experiment, gangOf, isFinished, presentStage } from "../experiment/experiment.ts";
import type { OwnJob } from "./own-job.ts";

export const FAILURES_MAX = 3;
const PAUSE_FIRST_MS = 10_000;
const PAUSE_MAX_MS = 300_000;

/** A stage that workers are wanted for. */
export interface Need {
  readonly experimentId: string;
  readonly stage: StageName;
  readonly workers: number;
  /** It is at work with the workers that it has. */
  readonly hasGang: boolean;
  /** Its gang is about to end: what is there stays, and nothing is added. */
  readonly isEnding: boolean;
}

export type LaunchAction =
  | {
      readonly type: "create";
      readonly experimentId: string;
      readonly stage: StageName;
      readonly attempt: number;
      readonly workers: number;
    }
  | { readonly type: "delete"; readonly job: OwnJob; readonly because: string };

export interface LaunchPlan {
  readonly actions: readonly LaunchAction[];
  /** What keeps an experiment from its workers, for people. */
  readonly hints: ReadonlyMap<string, string>;
  /** Since when a stage has been short of workers with so many Jobs there; for the next plan. */
  readonly shortSinceMs: ReadonlyMap<string, number>;
}

/** In the order in which they get workers. */
export function needsOf(experiments: readonly Experiment[]): readonly Need[] {
  return experiments.toSorted(byTurn).flatMap((experiment): Need[] => {
    const { id: experimentId, phase } = experiment;
    if (isFinished(experiment) || phase.status === "paused") return [];
    const { name: stage, sizes } = presentStage(experiment);
    const hasGang = gangOf(experiment).length > 0;
    const isEnding = phase.status === "stopping" && phase.aim !== "restart";
    return [{ experimentId, stage, workers: sizes[0] ?? 0, hasGang, isEnding }];
  });
}

/** As the planner has them. */
function byTurn(a: Experiment, b: Experiment): number {
  return b.priority - a.priority || a.submittedUnixMs - b.submittedUnixMs;
}

export function planLaunch(
  needs: readonly Need[],
  jobs: readonly OwnJob[],
  { before, nowMs }: { readonly before: LaunchPlan["shortSinceMs"]; readonly nowMs: number },
): LaunchPlan {
  const hints = new Map<string, string>();
  const shortSinceMs = new Map<string, number>();
  const isOf = ({ experimentId, stage }: Need, job: OwnJob): boolean =>
    job.experimentId === experimentId && job.stage === stage;
  const deletions = jobs
    .filter((job) => !job.isBeingDeleted && !needs.some((need) => isOf(need, job)))
    .map((job): LaunchAction => {
      return { type: "delete", job, because: `${job.stage} of ${job.experimentId} wants none` };
    });
  let first: string | undefined;
  const changes = needs.flatMap((need): LaunchAction[] => {
    const { experimentId, stage, hasGang, isEnding } = need;
    const own = jobs.filter((job) => isOf(need, job));
    const present = own.filter(({ isBeingDeleted }) => !isBeingDeleted);
    const isHeldBack = present.some(({ isSuspended }) => isSuspended);
    if (!hasGang && !isHeldBack && first !== undefined) {
      const because = `waits until ${first} has its workers`;
      hints.set(experimentId, because);
      const early = present.filter((job) => job.failure === undefined && job.workers > 0);
      return early.map((job) => ({ type: "delete", job, because: `${experimentId} ${because}` }));
    }
    const hint = hintFor(present);
    if (hint) hints.set(experimentId, hint);
    const failures = present.filter(({ failure }) => failure !== undefined);
    if (failures.length >= FAILURES_MAX) return [];
    if (!hasGang && !isHeldBack) first = experimentId;
    const workers = need.workers - present.reduce((sum, job) => sum + job.workers, 0);
    if (workers <= 0 || isEnding) return [];

    const attempt = 1 + Math.max(0, ...own.map((job) => job.attempt));
    const key = `${experimentId} ${stage} ${attempt}`;
    const sinceMs = before.get(key) ?? nowMs;
    shortSinceMs.set(key, sinceMs);
    if (nowMs - sinceMs < pauseMs(present.length)) return [];
    return [{ type: "create", experimentId, stage, attempt, workers }];
  });
  return { actions: [...deletions, ...changes], hints, shortSinceMs };
}

/** Before another Job, with so many there; the first one is created at once. */
function pauseMs(present: number): number {
  return present === 0 ? 0 : Math.min(PAUSE_FIRST_MS * 2 ** (present - 1), PAUSE_MAX_MS);
}

function hintFor(jobs: readonly OwnJob[]): string | undefined {
  const failed = jobs.filter(({ failure }) => failure !== undefined);
  const last = failed.at(-1);
  if (last) {
    const told = `Job ${last.name} has failed: ${last.failure}`;
    if (failed.length < FAILURES_MAX) return told;
    return `${told}; it was the ${ordinal(failed.length)} one: pause and resume it for a new one`;
  }
  const suspended = jobs.find(({ isSuspended }) => isSuspended);
  return suspended && `Job ${suspended.name} is suspended`;
}

function ordinal(count: number): string {
  return count === 3 ? "3rd" : `${count}th`;
}
