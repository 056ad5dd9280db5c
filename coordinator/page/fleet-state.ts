/** What the page knows: a snapshot, and what the stream has told since. Pure. */

import { type Curves, changeCurve, type StageCurves } from "../experiment/curves.ts";
import type { DetailChange, FleetChange, FleetSnapshot } from "../http/fleet-changes.ts";
import type {
  ExperimentDetail,
  ExperimentSummary,
  FleetView,
  FleetWorker,
} from "../http/fleet-view.ts";

export type FleetState = FleetSnapshot;

export function applyChange(state: FleetState, change: FleetChange): FleetState {
  const { fleet, detail } = state;
  const next = { fleet: changeFleet(fleet, change) };
  if (!detail) return detail === undefined ? next : { ...next, detail };
  return { ...next, detail: change.detail ? changeDetail(detail, change.detail) : detail };
}

function changeFleet(fleet: FleetView, change: FleetChange): FleetView {
  const { nowUnixMs, problems = fleet.problems } = change;
  const queue = change.queue ?? fleet.queue;
  return {
    version: fleet.version,
    nowUnixMs,
    problems,
    experiments: merge(fleet.experiments, change.experiments, change.goneExperiments),
    workers: merge(fleet.workers, change.workers, change.goneWorkers),
    ...(queue ? { queue } : {}),
  };
}

/** Those that are known keep their place. */
function merge<One extends ExperimentSummary | FleetWorker>(
  known: readonly One[],
  changed: readonly One[] = [],
  gone: readonly string[] = [],
): readonly One[] {
  if (changed.length === 0 && gone.length === 0) return known;
  const all = new Map(known.map((one) => [one.id, one]));
  for (const one of changed) all.set(one.id, one);
  for (const id of gone) all.delete(id);
  return [...all.values()];
}

function changeDetail(detail: ExperimentDetail, change: DetailChange): ExperimentDetail {
  const { experiment, timeline = detail.timeline, results = detail.results } = change;
  const curves = change.curves ? changeCurves(detail.curves, change.curves) : detail.curves;
  return { ...detail, experiment, results, timeline, curves };
}

function changeCurves(curves: Curves, changes: NonNullable<DetailChange["curves"]>): Curves {
  const changed = Object.entries(changes).map(([stage, { training, quality, lossBound }]) => {
    const before: StageCurves = curves[stage as keyof Curves] ?? { training: [], quality: [] };
    const after: StageCurves = {
      training: training ? changeCurve(before.training, training) : before.training,
      quality: quality ? changeCurve(before.quality, quality) : before.quality,
      ...(lossBound === undefined ? {} : { lossBound }),
    };
    return [stage, after];
  });
  return { ...curves, ...Object.fromEntries(changed) };
}
