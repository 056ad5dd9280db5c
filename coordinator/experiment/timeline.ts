/**
 * What has happened to an experiment, oldest first, for people who ask why it is where it is. Pure.
 *
 * Entries are written when something changes, never per report of progress, and there is a bound to
 * them: of checkpoints only the newest is kept.
 */

import type { StageName } from "../../proto/recipe.ts";
import type { Status } from "./phase.ts";

/** Older entries are dropped. */
export const TIMELINE_LENGTH_MAX = 300;

/** What can happen beside a change of state. */
export type Occurrence =
  | "submitted"
  | "worker-lost"
  | "worker-drains"
  | "contact-lost"
  | "failure"
  | "restart"
  | "resumed"
  | "stop-overdue"
  | "checkpoint"
  | "storage-problem"
  | "storage-problem-over"
  | "straggler"
  | "straggler-over"
  | "coordinator-took-over"
  | "job-created"
  | "job-failed";

interface Entry {
  /** Rises by one from entry to entry of an experiment. */
  readonly sequence: number;
  readonly unixMs: number;
  readonly stage: StageName;
  readonly generation: number;
  /** The reason of a change of state, or what has happened, in words. */
  readonly message: string;
}

/** Whom and what an occurrence is about. */
export interface About {
  readonly step?: number;
  readonly rank?: number;
  /** Id of a worker. */
  readonly worker?: string;
}

export type StateChange = Entry & {
  readonly type: "state";
  readonly from: Status;
  readonly to: Status;
};
export type TimelineEntry = StateChange | (Entry & About & { readonly type: Occurrence });

type WithoutSequence<T> = T extends unknown ? Omit<T, "sequence"> : never;
export type NewEntry = WithoutSequence<TimelineEntry>;

/** Of an experiment that waits for `stage`. */
export function startTimeline(stage: StageName, unixMs: number): readonly TimelineEntry[] {
  const message = "submitted by an operator";
  return addEntry([], { type: "submitted", unixMs, stage, generation: 0, message });
}

export function addEntry(
  timeline: readonly TimelineEntry[],
  entry: NewEntry,
): readonly TimelineEntry[] {
  const sequence = (timeline.at(-1)?.sequence ?? 0) + 1;
  const isSuperseded = ({ type }: TimelineEntry): boolean =>
    type === "checkpoint" && entry.type === "checkpoint";
  const kept = timeline.filter((earlier) => !isSuperseded(earlier));
  return [...kept, { ...entry, sequence }].slice(-TIMELINE_LENGTH_MAX);
}

/** Its changes of state. */
export function historyOf(timeline: readonly TimelineEntry[]): readonly StateChange[] {
  return timeline.filter((entry) => entry.type === "state");
}
