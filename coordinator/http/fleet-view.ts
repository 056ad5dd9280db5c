/**
 * What the page and scripts are shown of the fleet: the views of the commands' `--json`, and what
 * charts need besides. Pure.
 */

import { SOFTWARE_VERSION } from "../../proto/version.ts";
import { describeExperiment, toWireEvent, toWireWorker } from "../control/experiment-message.ts";
import {
  type EventView,
  type ExperimentView,
  toEventView,
  toView,
  toWorkerView,
  type WorkerView,
} from "../control/experiment-view.ts";
import type { Curves } from "../experiment/curves.ts";
import type { Experiment } from "../experiment/experiment.ts";
import type { Member } from "../member/member.ts";
import type { Scheduler } from "../scheduling/scheduler.ts";

/** An experiment in a list: without the results of its stages, of which only top-1 is told. */
export type ExperimentSummary = Omit<ExperimentView, "results"> & {
  /** Percent, of the linear evaluation. */
  readonly top1?: number;
};

export type FleetWorker = Omit<WorkerView, "heartbeatAgeMs"> & {
  readonly heardUnixMs: number;
  /** The part of its step that it waits for data. */
  readonly dataSeconds?: number;
};

/** Jobs of the queue by state; absent while Redis does not tell. */
export type QueueView = Readonly<Record<string, number>> | undefined;

export interface FleetView {
  readonly version: string;
  readonly nowUnixMs: number;
  /** Why this coordinator does not lead or work, for people; empty when it does. */
  readonly problems: readonly string[];
  readonly experiments: readonly ExperimentSummary[];
  readonly workers: readonly FleetWorker[];
  readonly queue?: Readonly<Record<string, number>>;
}

export interface ExperimentDetail {
  readonly experiment: ExperimentSummary;
  /** Contents of result.json of each finished stage. */
  readonly results: ExperimentView["results"];
  readonly timeline: readonly EventView[];
  readonly curves: Curves;
  /** The resolved recipe. */
  readonly recipe: unknown;
}

export type FleetSource = Pick<
  Scheduler,
  "experiments" | "experiment" | "members" | "stragglers" | "nameOf" | "recipeJson"
>;

/** What time it is, by both clocks. */
export interface Now {
  readonly monotonicMs: number;
  readonly unixMs: number;
}

export function toFleetView(
  source: FleetSource,
  about: { readonly now: Now; readonly problems: readonly string[]; readonly queue: QueueView },
): FleetView {
  const { now, problems, queue } = about;
  return {
    version: SOFTWARE_VERSION,
    nowUnixMs: now.unixMs,
    problems,
    experiments: source.experiments().map((experiment) => toSummary(source, experiment)),
    workers: source.members().map((member) => toFleetWorker(member, now)),
    ...(queue ? { queue } : {}),
  };
}

/** @throws {FleetError} NOT_FOUND */
export function toDetail(source: FleetSource, id: string): ExperimentDetail {
  const experiment = source.experiment(id);
  return {
    experiment: toSummary(source, experiment),
    results: toExperimentView(source, experiment).results,
    timeline: toTimeline(experiment),
    curves: experiment.curves,
    recipe: JSON.parse(source.recipeJson(id)),
  };
}

export function toSummary(source: FleetSource, experiment: Experiment): ExperimentSummary {
  const { results, ...view } = toExperimentView(source, experiment);
  const top1 = results.linear?.["top1"];
  return { ...view, ...(typeof top1 === "number" ? { top1 } : {}) };
}

export function toFleetWorker(member: Member, now: Now): FleetWorker {
  const worker = toWorkerView(toWireWorker(member, now.monotonicMs));
  const { heartbeatAgeMs, ...rest } = worker;
  const dataSeconds = member.status === "busy" ? member.times?.dataSeconds : undefined;
  return {
    ...rest,
    heardUnixMs: now.unixMs - heartbeatAgeMs,
    ...(dataSeconds === undefined ? {} : { dataSeconds }),
  };
}

export function toExperimentView(source: FleetSource, experiment: Experiment): ExperimentView {
  const options = { recipeJson: "", withHistory: false };
  return toView(describeExperiment(source, experiment, options));
}

export function toTimeline({ timeline }: Experiment): readonly EventView[] {
  return timeline.map((entry) => toEventView(toWireEvent(entry)));
}
