/**
 * An experiment as the coordinator sees it: what it is made of, and the states it goes through.
 * experiment-step.ts has the rules.
 *
 *                        +--------------- retry ----------------+
 *                        v                                      |
 *   submit ---------> waiting ---- cancel ----> cancelled ------+
 *                     ^  |  ^                       ^           |
 *          next stage |  |  |                       |           |
 *                     |  |  +-- restart ---+        | cancel    |
 *             +-------+  | assigned        |        |           |
 *             |          v                 |        |           |
 *             |       forming ------> stopping -----+           |
 *             |          |            ^    |                    |
 *             |          | progress   |    | fail               |
 *             |          v            |    v                    |
 *             +------ running --------+  failed ----------------+
 *                        |   failure, member left or lost,
 *                        |   or cancel
 *                        | last stage done
 *                        v
 *                    succeeded
 *
 * `generation` counts the gangs of the whole fleet: it is drawn anew for each forming, and whatever
 * carries another one than the experiment's is late and changes nothing.
 */

import type { ErrorCode } from "../../proto/errors.ts";
import type { StageName } from "../../proto/recipe.ts";

/** Restarts in a row that may come no further than the one before, until the experiment fails. */
export const RESTARTS_WITHOUT_PROGRESS_MAX = 3;
/** Older entries of an experiment's history are dropped. */
export const HISTORY_LENGTH_MAX = 200;

/** One stage as scheduling needs it; everything else about it is in the recipe. */
export interface StagePlan {
  readonly name: StageName;
  /** World size of its gang. */
  readonly workers: number;
}

/** Percent, when so many nearest neighbours vote. */
interface KnnAccuracy {
  readonly neighbours: number;
  readonly top1: number;
  readonly top5: number;
}

/** What rank 0 last reported. Counts, units and meaning as `Progress` in coordinator.proto. */
export interface StageProgress {
  readonly stage: StageName;
  readonly step: number;
  readonly stepsTotal: number;
  readonly epoch: number;
  readonly epochsTotal: number;
  readonly loss: number;
  readonly lr: number;
  readonly imagesPerSecond: number;
  readonly etaSeconds: number;
  readonly top1?: number;
  readonly top5?: number;
  readonly skippedImages: number;
  readonly checkpointStep?: number;
  readonly allReduceSeconds?: number;
  readonly allReduceHidden?: number;
  readonly lossBound?: number;
  readonly lossAtBound?: boolean;
  readonly knn?: readonly KnnAccuracy[];
  readonly probeTop1?: number;
  readonly probeTop5?: number;
  readonly storageProblem?: string;
  readonly checkpointFailures?: number;
}

/** Why a gang broke up, as one of its members tells it, or as the coordinator saw it. */
export interface Failure {
  readonly code: ErrorCode;
  readonly message: string;
  readonly rank: number;
  readonly unixMs: number;
}

export type Phase =
  /** In the queue. No worker has anything of it; `reason` says what it waits for. */
  | { readonly status: "waiting"; readonly reason: string }
  /** The gang was told its ranks, and its members are connecting to one another. */
  | { readonly status: "forming"; readonly gang: readonly string[] }
  /** At least one step was reported. `finished` ranks have delivered their result. */
  | {
      readonly status: "running";
      readonly gang: readonly string[];
      readonly finished: readonly number[];
    }
  /** The members were told to stop; those not in `left` still have the generation in hand. */
  | {
      readonly status: "stopping";
      readonly gang: readonly string[];
      readonly left: readonly string[];
      readonly aim: "restart" | "fail" | "cancel";
      readonly because: string;
      readonly failures: readonly Failure[];
    }
  | { readonly status: "succeeded" }
  | { readonly status: "failed"; readonly code: ErrorCode; readonly message: string }
  | { readonly status: "cancelled" };

export type Status = Phase["status"];

/** One change of state, for people who ask what happened. */
export interface Transition {
  readonly unixMs: number;
  readonly from: Status;
  readonly to: Status;
  readonly stage: StageName;
  readonly generation: number;
  readonly because: string;
}

export interface Experiment {
  readonly id: string;
  readonly name: string;
  readonly recipeName: string;
  /** Higher goes first. */
  readonly priority: number;
  readonly stages: readonly StagePlan[];
  /** Index in `stages` of the one that it is in or waits for. */
  readonly stageIndex: number;
  /** Of its newest gang; 0 before the first. */
  readonly generation: number;
  /** The newest gang in rank order: its members have warm caches, so the next one prefers them. */
  readonly lastGang: readonly string[];
  readonly restarts: number;
  /** Restarts in a row that came no further than `furthestStep`. */
  readonly fruitlessRestarts: number;
  /** Highest step of the present stage that any generation reached. */
  readonly furthestStep: number;
  readonly submittedUnixMs: number;
  readonly startedUnixMs?: number;
  readonly finishedUnixMs?: number;
  readonly progress?: StageProgress;
  /** result.json of each finished stage. */
  readonly results: Readonly<Partial<Record<StageName, string>>>;
  readonly history: readonly Transition[];
  readonly phase: Phase;
}

export type ExperimentEvent =
  /** The planner found a whole gang; rank is the index in `gang`. */
  | { readonly type: "assigned"; readonly generation: number; readonly gang: readonly string[] }
  /** The planner's newest reason why it does not start. */
  | { readonly type: "still-waiting"; readonly reason: string }
  | {
      readonly type: "progress";
      readonly generation: number;
      readonly worker: string;
      readonly progress: StageProgress;
    }
  | {
      readonly type: "result";
      readonly generation: number;
      readonly worker: string;
      readonly resultJson?: string;
    }
  | {
      readonly type: "failure";
      readonly generation: number;
      readonly worker: string;
      readonly code: ErrorCode;
      readonly message: string;
      readonly unixMs: number;
      readonly step: number;
    }
  /** The member has nothing of the generation any more: it said so, or it is gone. */
  | {
      readonly type: "left";
      readonly generation: number;
      readonly worker: string;
      readonly because: string;
      readonly step?: number;
    }
  | { readonly type: "cancel" }
  | { readonly type: "retry" };

export type ExperimentEffect =
  /** Tell each member of the gang its rank. */
  | {
      readonly type: "assign";
      readonly generation: number;
      readonly stage: StageName;
      readonly gang: readonly string[];
    }
  /** Tell these members to leave the generation at the next step boundary. */
  | {
      readonly type: "abort";
      readonly generation: number;
      readonly workers: readonly string[];
      readonly because: string;
    }
  /** This member has delivered its result, and is free with that. */
  | { readonly type: "release"; readonly generation: number; readonly worker: string }
  /** The queue's job of the present stage, or all of them, has come to its end. */
  | { readonly type: "stage-ended"; readonly stage: StageName }
  /** The remaining stages have to be queued again. */
  | { readonly type: "requeue" };

export interface ExperimentStep {
  readonly experiment: Experiment;
  readonly effects: readonly ExperimentEffect[];
}

/** The stage that the experiment is in or waits for. */
export function presentStage(experiment: Experiment): StagePlan {
  const stage = experiment.stages[experiment.stageIndex];
  if (stage === undefined) throw new RangeError(`${experiment.id} has no such stage`);
  return stage;
}

/** Whether nothing will happen to it any more, unless somebody retries it. */
export function isFinished(experiment: Experiment): boolean {
  return ["succeeded", "failed", "cancelled"].includes(experiment.phase.status);
}

/** The members of the present gang in rank order; empty when there is none. */
export function gangOf(experiment: Experiment): readonly string[] {
  return "gang" in experiment.phase ? experiment.phase.gang : [];
}

/** Those members of the gang that still hold the generation, with their ranks. */
export function holdersOf({ phase }: Experiment): ReadonlyMap<string, number> {
  if (!("gang" in phase)) return new Map();
  const isOut = (worker: string, rank: number): boolean => {
    if (phase.status === "running") return phase.finished.includes(rank);
    return phase.status === "stopping" && phase.left.includes(worker);
  };
  const members = phase.gang.map((worker, rank): [string, number] => [worker, rank]);
  return new Map(members.filter(([worker, rank]) => !isOut(worker, rank)));
}

/** Why it is in its state: one line for people. Empty when the state says it all. */
export function reasonOf(experiment: Experiment): string {
  const { phase } = experiment;
  switch (phase.status) {
    case "waiting":
      return phase.reason;
    case "stopping":
      return phase.because;
    case "failed":
      return phase.message;
    case "forming":
      return `${phase.gang.length} workers are connecting to one another`;
    case "running":
      return phase.finished.length === 0
        ? ""
        : `${phase.finished.length} of ${phase.gang.length} ranks have finished the stage`;
    case "cancelled":
      return experiment.history.at(-1)?.because ?? "";
    case "succeeded":
      return "";
  }
}
