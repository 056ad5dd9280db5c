/** Everything that can wake the scheduler, and everything that it can say to a worker. */

import type { ErrorCode, FleetError } from "../../proto/errors.ts";
import type { StageName } from "../../proto/recipe.ts";
import type { Experiment, OperatorVerb, StageProgress } from "../experiment/experiment.ts";
import type { Occurrence } from "../experiment/timeline.ts";
import type { RankTimes, WorkerFacts } from "../member/member.ts";

/** The open connection of one worker. */
export interface Session {
  send(message: CoordinatorSays): void;
  /** Ends the connection; the worker may join again. */
  end(error: FleetError): void;
}

/** A generation that a worker holds, in its own words. */
export interface Running {
  readonly experimentId: string;
  readonly stage: StageName;
  readonly generation: number;
  readonly step: number;
}

export type WorkerSays =
  | {
      readonly type: "heartbeat";
      readonly running?: Running;
      readonly rssBytes: number;
      readonly times?: RankTimes;
    }
  | { readonly type: "draining"; readonly because: string }
  | {
      readonly type: "progress";
      readonly experimentId: string;
      readonly generation: number;
      readonly progress: StageProgress;
    }
  | {
      readonly type: "result";
      readonly experimentId: string;
      readonly generation: number;
      readonly resultJson?: string;
    }
  | {
      readonly type: "failure";
      readonly experimentId: string;
      readonly generation: number;
      readonly code: ErrorCode;
      readonly message: string;
      readonly unixMs: number;
      readonly step: number;
    }
  | {
      readonly type: "stopped";
      readonly experimentId: string;
      readonly generation: number;
      readonly step: number;
      readonly because: string;
      /** Of the checkpoint that it wrote on the way out. */
      readonly checkpointStep?: number;
      /** Those that it lost contact with. */
      readonly lostRanks: readonly number[];
    };

export type CoordinatorSays =
  | {
      readonly type: "assignment";
      readonly experimentId: string;
      readonly stage: StageName;
      readonly generation: number;
      readonly rank: number;
      /** In rank order. */
      readonly peers: readonly { readonly workerId: string; readonly address: string }[];
      readonly recipeJson: string;
    }
  | {
      readonly type: "abort";
      readonly experimentId: string;
      readonly generation: number;
      readonly because: string;
      /** As in coordinator.proto. */
      readonly atStepBoundary: boolean;
      readonly keepCheckpoint: boolean;
    }
  | { readonly type: "dismiss"; readonly because: string };

export type SchedulerEvent =
  | { readonly type: "submitted"; readonly experiment: Experiment; readonly recipeJson: string }
  | { readonly type: OperatorVerb; readonly experimentId: string }
  /** An operator wants a worker to leave. */
  | { readonly type: "drain-worker"; readonly worker: string }
  /** The queue let a stage go: the planner may start it. */
  | { readonly type: "handed-over"; readonly experimentId: string }
  | {
      readonly type: "worker-joined";
      readonly facts: WorkerFacts;
      readonly running?: Running;
      readonly session: Session;
    }
  | { readonly type: "worker-disconnected"; readonly id: string; readonly session: Session }
  | {
      readonly type: "worker-said";
      readonly id: string;
      readonly session: Session;
      readonly message: WorkerSays;
    }
  /** Something has happened to an experiment that changes nothing but its timeline. */
  | {
      readonly type: "noted";
      readonly experimentId: string;
      readonly occurrence: Occurrence;
      readonly message: string;
    }
  /** Numbers for the next gangs, drawn from the store. */
  | { readonly type: "generations-drawn"; readonly generations: readonly number[] }
  | { readonly type: "tick" };
