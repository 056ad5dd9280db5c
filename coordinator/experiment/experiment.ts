/**
 * An experiment as the coordinator sees it: what it is made of, and the states it goes through.
 * experiment-step.ts has the rules.
 *
 *                        +--------------- retry ----------------+
 *             resume     v                                      |
 *   paused --------> waiting ---- cancel ----> cancelled -------+
 *      ^  <- pause --+ ^ |  ^                     ^             |
 *      |               | |  |                     |             |
 *      |    next stage | |  +-- restart ---+      | cancel      |
 *      |               | | assigned        |      |             |
 *      |     +---------+ v                 |      |             |
 *      |     |        forming ------> stopping ---+             |
 *      |     |           |             ^  |  |                  |
 *      |     |           | progress    |  |  | fail             |
 *      |     |           v             |  |  v                  |
 *      |     +------- running ---------+  | failed -------------+
 *      |                 |   failure, member left or lost,
 *      |                 |   worker drained, cancel or pause
 *      |                 |                |
 *      |                 |                | pause
 *      +-----------------|----------------+
 *                        | last stage done
 *                        v
 *                    succeeded
 *
 * A paused experiment can be cancelled, too, and a running one is stopped so that it grows.
 *
 * `generation` counts the gangs of the whole fleet: it is drawn anew for each forming, and whatever
 * carries another one than the experiment's is late and changes nothing.
 */

import type { ErrorCode } from "../../proto/errors.ts";
import type { StageName } from "../../proto/recipe.ts";
import type { Curves } from "./curves.ts";
import type { Goodput } from "./goodput.ts";
import type { Failure, Phase, RestartCause, StopMode } from "./phase.ts";
import type { About, Occurrence, TimelineEntry } from "./timeline.ts";

/** One stage as scheduling needs it; everything else about it is in the recipe. */
export interface StagePlan {
  readonly name: StageName;
  /** Ranks that the recipe gives it; fewer workers share them. */
  readonly ranks: number;
  /** World sizes that its gang may have, largest first. */
  readonly sizes: readonly number[];
  /** How long it waits for more workers before it goes on with fewer, ms. */
  readonly waitMs: number;
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
  readonly trainingSeconds?: number;
}

export interface Experiment {
  readonly id: string;
  /** Of the request that has submitted it. */
  readonly requestId?: string;
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
  /** The last gang of the present stage that came to a step; absent before one did. */
  readonly settled?: { readonly generation: number; readonly size: number };
  /** How often its gang was formed anew, by what for. */
  readonly restarts: Readonly<Record<RestartCause, number>>;
  /** Failures in a row, without a step beyond `furthestStep`, that it is allowed. */
  readonly maxRestarts: number;
  /** Restarts after failures in a row that came no further than `furthestStep`. */
  readonly fruitlessRestarts: number;
  /** What the first of those had for a root cause. */
  readonly firstCause?: Failure;
  /** Highest step of the present stage that any generation reached. */
  readonly furthestStep: number;
  /** Steps that were taken and had to be taken again, over all restarts. */
  readonly lostSteps: number;
  /** Absent before its first gang. */
  readonly goodput?: Goodput;
  /** How many times slower than the others a rank has to be to be called a straggler. */
  readonly stragglerFactor: number;
  readonly submittedUnixMs: number;
  readonly startedUnixMs?: number;
  readonly finishedUnixMs?: number;
  readonly progress?: StageProgress;
  /** result.json of each finished stage. */
  readonly results: Readonly<Partial<Record<StageName, string>>>;
  /** What has happened to it, oldest first. */
  readonly timeline: readonly TimelineEntry[];
  /** The course of its figures, stage by stage. */
  readonly curves: Curves;
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
  /** The member has left the generation, and says so. */
  | {
      readonly type: "left";
      readonly generation: number;
      readonly worker: string;
      /** The worker's, for people. */
      readonly name: string;
      readonly because: string;
      readonly step: number;
      /** Of the checkpoint that it wrote on the way out. */
      readonly checkpointStep?: number;
      /** Those that it lost contact with. */
      readonly lostRanks: readonly number[];
    }
  /** The member is gone, and with it what it had of the generation. */
  | {
      readonly type: "lost";
      readonly generation: number;
      readonly worker: string;
      readonly name: string;
      readonly because: string;
    }
  /** The gang is to be formed anew, though nothing is wrong with it. */
  | {
      readonly type: "reform";
      readonly generation: number;
      readonly cause: Exclude<RestartCause, "failure">;
      readonly because: string;
      /** Else members keep the state in memory for the next gang. */
      readonly keepCheckpoint: boolean;
      /** The member that has to leave. */
      readonly drained?: string;
    }
  /** The gang has not come to a step boundary in time. */
  | { readonly type: "stop-overdue"; readonly afterMs: number }
  /** Something happened that changes nothing but the timeline. */
  | ({
      readonly type: "noted";
      readonly occurrence: Occurrence;
      readonly message: string;
    } & About)
  | { readonly type: OperatorVerb };

/** What operators can ask of an experiment. */
export type OperatorVerb = "cancel" | "retry" | "pause" | "resume";

export type ExperimentEffect =
  /** Tell each member of the gang its rank. */
  | {
      readonly type: "assign";
      readonly generation: number;
      readonly stage: StageName;
      readonly gang: readonly string[];
    }
  /** Tell these members to leave the generation. */
  | ({
      readonly type: "abort";
      readonly generation: number;
      readonly workers: readonly string[];
      readonly because: string;
    } & StopMode)
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
export function gangOf(experiment: Experiment | undefined): readonly string[] {
  return experiment && "gang" in experiment.phase ? experiment.phase.gang : [];
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
      return phase.gang.length === 1
        ? "its worker is getting ready"
        : `${phase.gang.length} workers are connecting to one another`;
    case "running": {
      const { finished, gang } = phase;
      if (finished.length > 0) {
        return `${finished.length} of ${gang.length} ranks have finished the stage`;
      }
      const { ranks } = presentStage(experiment);
      return gang.length < ranks ? `on ${gang.length} of ${ranks} workers` : "";
    }
    case "paused":
    case "cancelled":
      return phase.because;
    case "succeeded":
      return "";
  }
}
