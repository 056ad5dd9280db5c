/** Records of experiments that earlier versions have written, in today's form. Pure. */

import type { StageName } from "../../proto/recipe.ts";
import type { Experiment } from "./experiment.ts";
import type { Phase, Status } from "./phase.ts";
import { addEntry, type TimelineEntry } from "./timeline.ts";

/**
 * Version 1: a stage needed all of its workers, restarts were counted together, and only changes of
 * state were kept.
 */
type Version1 = Omit<Experiment, "stages" | "restarts" | "timeline" | "curves"> & {
  readonly stages: readonly { readonly name: StageName; readonly workers: number }[];
  readonly restarts: number;
  readonly history: readonly {
    readonly unixMs: number;
    readonly from: Status;
    readonly to: Status;
    readonly stage: StageName;
    readonly generation: number;
    readonly because: string;
  }[];
};

export function upgradeRecord(record: Version1): Experiment {
  const { history, ...rest } = record;
  const timeline = history.reduce<readonly TimelineEntry[]>(
    (entries, { because, ...change }) =>
      addEntry(entries, { ...change, type: "state", message: because }),
    [],
  );
  return {
    ...rest,
    stages: record.stages.map(({ name, workers }) => ({
      name,
      ranks: workers,
      sizes: [workers],
      waitMs: 0,
    })),
    restarts: { failure: record.restarts, preemption: 0, membership: 0 },
    maxRestarts: 3,
    lostSteps: 0,
    stragglerFactor: 2,
    timeline,
    curves: {},
    phase: upgradePhase(record.phase, timeline),
  };
}

function upgradePhase(phase: Phase, timeline: readonly TimelineEntry[]): Phase {
  switch (phase.status) {
    case "stopping": {
      const mode = { atStepBoundary: false, keepCheckpoint: true };
      const failures = phase.failures.map((failure) => ({ ...failure, kind: "error" as const }));
      return { ...phase, cause: "failure", mode, failures, lostContacts: [] };
    }
    case "cancelled":
      return { ...phase, because: timeline.at(-1)?.message ?? "" };
    default:
      return phase;
  }
}
