/** Experiments and workers in the form that people's scripts read: `--json`. Pure. */

import type {
  Experiment,
  Progress,
  Straggler,
  TimelineEvent,
  WorkerInfo,
} from "../../proto/gen/coordinator.ts";
import type { StageName } from "../../proto/recipe.ts";
import type { Status } from "../experiment/phase.ts";
import type { Dedication } from "../member/dedication.ts";
import { parseDedication } from "./dedication-message.ts";
import { fromWireStage, fromWireState } from "./wire-names.ts";

/** What rank 0 last reported. */
export type ProgressView = Omit<Progress, "experimentId" | "generation" | "stage"> & {
  readonly stage: StageName;
};

export interface ExperimentView {
  readonly id: string;
  readonly name: string;
  readonly recipe: string;
  readonly priority: number;
  readonly state: Status;
  readonly stage: StageName;
  readonly generation: number;
  readonly reason: string;
  readonly errorCode?: string;
  /** All of them; `failures`, `preemptions` and `membershipChanges` are what they are made of. */
  readonly restarts: number;
  readonly failures: number;
  readonly preemptions: number;
  readonly membershipChanges: number;
  readonly submittedUnixMs: number;
  readonly startedUnixMs?: number;
  readonly finishedUnixMs?: number;
  readonly progress?: ProgressView;
  /** In rank order, while a gang is assigned. */
  readonly workers: readonly string[];
  /** Of the recipe's stage; fewer workers share them. */
  readonly ranks: number;
  /** Ranks that are slower than the others. */
  readonly stragglers: readonly Straggler[];
  /** Contents of result.json of each finished stage. */
  readonly results: Readonly<Partial<Record<StageName, Readonly<Record<string, unknown>>>>>;
}

/** One entry of an experiment's history. */
export interface TransitionView {
  readonly unixMs: number;
  readonly from: Status;
  readonly to: Status;
  readonly stage: StageName;
  readonly generation: number;
  readonly because: string;
}

/** @throws {FleetError} VERSION_MISMATCH, USAGE for names that this version does not know */
export function toView(experiment: Experiment): ExperimentView {
  const { errorCode, startedUnixMs, finishedUnixMs, progress } = experiment;
  return {
    id: experiment.experimentId,
    name: experiment.name,
    recipe: experiment.recipeName,
    priority: experiment.priority,
    state: fromWireState(experiment.state),
    stage: fromWireStage(experiment.stage),
    generation: experiment.generation,
    reason: experiment.reason,
    ...(errorCode === undefined ? {} : { errorCode }),
    restarts: experiment.restarts,
    failures: experiment.failures,
    preemptions: experiment.preemptions,
    membershipChanges: experiment.membershipChanges,
    submittedUnixMs: experiment.submittedUnixMs,
    ...(startedUnixMs === undefined ? {} : { startedUnixMs }),
    ...(finishedUnixMs === undefined ? {} : { finishedUnixMs }),
    ...(progress === undefined ? {} : { progress: toProgressView(progress) }),
    workers: experiment.workerIds,
    ranks: experiment.ranks,
    stragglers: experiment.stragglers,
    results: {
      ...parseResult("pretrain", experiment.pretrainResultJson),
      ...parseResult("linear", experiment.linearResultJson),
    },
  };
}

export function toHistory(experiment: Experiment): readonly TransitionView[] {
  return experiment.history.map(({ from, to, stage, ...rest }) => ({
    ...rest,
    from: fromWireState(from),
    to: fromWireState(to),
    stage: fromWireStage(stage),
  }));
}

/** One entry of an experiment's timeline. */
export interface EventView {
  /** Rises from event to event of an experiment. */
  readonly sequence: number;
  readonly unixMs: number;
  /** "state", "worker-lost", "restart" and the like. */
  readonly type: string;
  readonly stage: StageName;
  readonly generation: number;
  readonly step?: number;
  readonly rank?: number;
  /** Id of a worker. */
  readonly worker?: string;
  readonly message: string;
  /** Of a change of state. */
  readonly from?: Status;
  readonly to?: Status;
}

export function toEventView(event: TimelineEvent): EventView {
  const { step, rank, workerId, stage, from, to, ...rest } = event;
  return {
    ...rest,
    stage: fromWireStage(stage),
    ...(step === undefined ? {} : { step }),
    ...(rank === undefined ? {} : { rank }),
    ...(workerId === undefined ? {} : { worker: workerId }),
    ...(from === undefined ? {} : { from: fromWireState(from) }),
    ...(to === undefined ? {} : { to: fromWireState(to) }),
  };
}

export interface WorkerView {
  readonly id: string;
  readonly name: string;
  /** "idle", "busy" or "lost". */
  readonly state: string;
  readonly engine: string;
  readonly device: string;
  readonly threads: number;
  readonly experiment?: string;
  readonly rank?: number;
  readonly step: number;
  readonly heartbeatAgeMs: number;
  readonly rssBytes: number;
  readonly peerAddress: string;
  readonly softwareVersion: string;
  /** It leaves the fleet as soon as it holds nothing. */
  readonly draining: boolean;
  /** Its own part of a step, without waiting for other ranks. */
  readonly ownStepSeconds?: number;
  /** Absent when it takes any work. */
  readonly dedication?: Dedication;
}

export function toWorkerView(worker: WorkerInfo): WorkerView {
  const { workerId, experimentId, rank, ownStepSeconds, dedication, ...rest } = worker;
  return {
    id: workerId,
    ...rest,
    ...(experimentId === undefined ? {} : { experiment: experimentId }),
    ...(rank === undefined ? {} : { rank }),
    ...(ownStepSeconds === undefined ? {} : { ownStepSeconds }),
    ...(dedication === undefined ? {} : { dedication: parseDedication(dedication) }),
  };
}

function toProgressView(progress: Progress): ProgressView {
  const { experimentId: _, generation: __, stage, ...rest } = progress;
  return { ...rest, stage: fromWireStage(stage) };
}

/** The coordinator lets only JSON objects through. */
function parseResult(stage: StageName, json: string | undefined): ExperimentView["results"] {
  return json === undefined ? {} : { [stage]: JSON.parse(json) };
}
