/** What passes between the bench, the process of a rank, and that process's engine thread. */

import type { PlainError } from "../../../proto/errors.ts";
import type { Peer } from "../../../worker/collective/membership.ts";
import type { OperationProfile } from "../../../worker/engine/engine.ts";
import type { StageJob, StepReport } from "../../../worker/train/stage-job.ts";
import type { CheckCosts } from "./check-costs.ts";
import type { StepSpec } from "./step-spec.ts";

/** Bench to rank, first. */
export interface RankTask {
  readonly rank: number;
  readonly spec: StepSpec;
  /** Opens the engine to measure its operations. */
  readonly profile: boolean;
  /** Nothing is written but when the gang breaks up: then rank 0 saves its state here. */
  readonly folder: string;
  /** How long a collective may take. */
  readonly timeoutMs: number;
}

/** Bench to rank, second: all ranks listen. */
export interface RankPeers {
  readonly peers: readonly Peer[];
}

/** What a rank's engine thread found. */
export interface RankFindings {
  /** Of the measured steps together; empty unless asked for. */
  readonly profile: readonly OperationProfile[];
  /** There when asked for. */
  readonly checks?: CheckCosts;
}

/** What one rank found. */
export interface RankMeasurement extends RankFindings {
  readonly engine: string;
  readonly device: string;
  /** High-water mark of the process, from its beginning to the end of the last step. */
  readonly peakRssMb: number;
}

/** Rank to bench. */
export type RankMessage =
  | { readonly type: "listening"; readonly address: string }
  | { readonly type: "step"; readonly report: StepReport }
  | { readonly type: "measured"; readonly measurement: RankMeasurement }
  | { readonly type: "failed"; readonly error: PlainError };

/** What the process starts its engine thread with. */
export interface RankThreadData {
  readonly spec: StepSpec;
  readonly profile: boolean;
}

/** Process to engine thread, once the group has formed. */
export interface RankThreadJob {
  readonly job: StageJob;
}

/** Engine thread to process. */
export type RankThreadMessage =
  | { readonly type: "ready"; readonly engine: string; readonly device: string }
  | { readonly type: "step"; readonly report: StepReport }
  | { readonly type: "done"; readonly findings: RankFindings }
  | { readonly type: "failed"; readonly error: PlainError };
