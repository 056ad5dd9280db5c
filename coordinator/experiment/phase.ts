/** The states of an experiment, each with what holds in it. The diagram is in experiment.ts. */

import type { ErrorCode } from "../../proto/errors.ts";

/** Why a gang broke up, as one of its members tells it, or as the coordinator saw it. */
export interface Failure {
  /**
   * A member met an error; a member is gone; or a member has left a gang that broke, which follows
   * from something else as a rule.
   */
  readonly kind: "error" | "lost" | "left";
  readonly code: ErrorCode;
  readonly message: string;
  readonly rank: number;
  readonly unixMs: number;
}

/** Why a gang is formed anew. Only failures count against the restart budget. */
export type RestartCause =
  | "failure"
  /** A worker was told to leave by its machine. */
  | "preemption"
  /** The gang is to have other members, by an operator's will or the planner's. */
  | "membership";

/** How a gang is told to stop, as `Abort` in coordinator.proto. */
export interface StopMode {
  /** The step under way is finished together first; otherwise it is given up. */
  readonly atStepBoundary: boolean;
  /** Members are out only when a checkpoint of the last step is durable. */
  readonly keepCheckpoint: boolean;
}

/** One rank that has lost contact with another. */
export interface LostContact {
  readonly rank: number;
  readonly of: number;
}

export type Phase =
  /** In the queue. No worker has anything of it; `reason` says what it waits for. */
  | { readonly status: "waiting"; readonly reason: string }
  /** Out of the planner's sight until it is resumed. No worker has anything of it. */
  | { readonly status: "paused"; readonly because: string }
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
      readonly aim: "restart" | "fail" | "cancel" | "pause";
      /** Of a restart, should it come to one. */
      readonly cause: RestartCause;
      readonly mode: StopMode;
      readonly because: string;
      readonly failures: readonly Failure[];
      readonly lostContacts: readonly LostContact[];
      /** Members that are to leave the fleet, not only the gang. */
      readonly drained?: readonly string[];
    }
  | { readonly status: "succeeded" }
  | { readonly status: "failed"; readonly code: ErrorCode; readonly message: string }
  | { readonly status: "cancelled"; readonly because: string };

export type Status = Phase["status"];
