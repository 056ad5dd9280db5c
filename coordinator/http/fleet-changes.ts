/**
 * What a watcher of the fleet has not been told yet. Records of experiments and members are never
 * changed but replaced, so whatever is the same object is the same. Pure.
 */

import type { StageName } from "../../proto/recipe.ts";
import type { EventView } from "../control/experiment-view.ts";
import {
  type CurveChange,
  type Curves,
  curveChange,
  type QualityPoint,
  type TrainingPoint,
} from "../experiment/curves.ts";
import type { Experiment } from "../experiment/experiment.ts";
import type { Member } from "../member/member.ts";
import {
  type ExperimentDetail,
  type ExperimentSummary,
  type FleetSource,
  type FleetView,
  type FleetWorker,
  type Now,
  type QueueView,
  toDetail,
  toExperimentView,
  toFleetView,
  toFleetWorker,
  toSummary,
  toTimeline,
} from "./fleet-view.ts";

/** The first event of a stream, and of each one that was opened again. */
export interface FleetSnapshot {
  readonly fleet: FleetView;
  /** Of the experiment that was asked for; null when there is none of that id. */
  readonly detail?: ExperimentDetail | null;
}

/** Of one stage's curves; what has stayed the same is absent. */
interface StageCurvesChange {
  readonly training?: CurveChange<TrainingPoint>;
  readonly quality?: CurveChange<QualityPoint>;
  readonly lossBound?: number;
}

export interface DetailChange {
  readonly experiment: ExperimentSummary;
  readonly results?: ExperimentDetail["results"];
  readonly timeline?: readonly EventView[];
  readonly curves?: Readonly<Partial<Record<StageName, StageCurvesChange>>>;
}

/** Later events of a stream; what has stayed the same is absent. */
export interface FleetChange {
  readonly nowUnixMs: number;
  readonly problems?: readonly string[];
  readonly experiments?: readonly ExperimentSummary[];
  /** Ids of experiments that are kept no more. */
  readonly goneExperiments?: readonly string[];
  readonly workers?: readonly FleetWorker[];
  readonly goneWorkers?: readonly string[];
  readonly queue?: Readonly<Record<string, number>>;
  readonly detail?: DetailChange;
}

/** The fleet at a moment, beside what the scheduler has. */
export interface Moment {
  readonly now: Now;
  readonly problems: readonly string[];
  readonly queue: QueueView;
}

export class FleetWatch {
  readonly #source: FleetSource;
  readonly #detailOf: string | undefined;
  #experiments: ReadonlyMap<string, Experiment> = new Map();
  #members: ReadonlyMap<string, Member> = new Map();
  #workersMs = 0;
  #problems = "";
  #queue = "";

  /** @param detailOf id of an experiment of which everything is told */
  constructor(source: FleetSource, detailOf?: string) {
    this.#source = source;
    this.#detailOf = detailOf;
  }

  /** Everything; changes are told from here on. */
  snapshot(moment: Moment): FleetSnapshot {
    this.#experiments = byId(this.#source.experiments());
    this.#members = byWorker(this.#source.members());
    this.#workersMs = moment.now.monotonicMs;
    this.#problems = JSON.stringify(moment.problems);
    this.#queue = JSON.stringify(moment.queue);
    const fleet = toFleetView(this.#source, moment);
    const id = this.#detailOf;
    if (id === undefined) return { fleet };
    return { fleet, detail: this.#experiments.has(id) ? toDetail(this.#source, id) : null };
  }

  /** What has changed since it was asked last; undefined when nothing has. */
  change(moment: Moment): FleetChange | undefined {
    const change = {
      ...this.#changeOfExperiments(),
      ...this.#changeOfWorkers(moment.now),
      ...this.#changeOfCoordinator(moment),
    };
    if (Object.keys(change).length === 0) return undefined;
    return { nowUnixMs: moment.now.unixMs, ...change };
  }

  #changeOfExperiments(): Partial<FleetChange> {
    const before = this.#experiments;
    this.#experiments = byId(this.#source.experiments());
    const changed = [...this.#experiments.values()].filter((one) => before.get(one.id) !== one);
    const gone = [...before.keys()].filter((id) => !this.#experiments.has(id));
    const earlier = before.get(this.#detailOf ?? "");
    const watched = changed.find(({ id }) => id === this.#detailOf);
    return {
      ...(changed.length > 0
        ? { experiments: changed.map((one) => toSummary(this.#source, one)) }
        : {}),
      ...(gone.length > 0 ? { goneExperiments: gone } : {}),
      ...(watched ? { detail: detailChange(this.#source, earlier, watched) } : {}),
    };
  }

  /** Each worker is heard of every second: of a large fleet that is told less often. */
  #changeOfWorkers(now: Now): Partial<FleetChange> {
    const before = this.#members;
    const present = byWorker(this.#source.members());
    const gone = [...before.keys()].filter((id) => !present.has(id));
    const isDue = now.monotonicMs - this.#workersMs >= workersEveryMs(present.size);
    const isUrgent = (member: Member): boolean => {
      return before.get(member.facts.id)?.status !== member.status;
    };
    const changed = [...present.values()].filter((member) => {
      return before.get(member.facts.id) !== member && (isDue || isUrgent(member));
    });
    if (isDue) this.#workersMs = now.monotonicMs;
    this.#members = isDue ? present : merged(before, changed, gone);
    return {
      ...(changed.length > 0 ? { workers: changed.map((one) => toFleetWorker(one, now)) } : {}),
      ...(gone.length > 0 ? { goneWorkers: gone } : {}),
    };
  }

  #changeOfCoordinator({ problems, queue }: Moment): Partial<FleetChange> {
    const [problemsBefore, queueBefore] = [this.#problems, this.#queue];
    this.#problems = JSON.stringify(problems);
    this.#queue = JSON.stringify(queue);
    return {
      ...(this.#problems === problemsBefore ? {} : { problems }),
      ...(queue === undefined || this.#queue === queueBefore ? {} : { queue }),
    };
  }
}

/** 300 bytes a worker: 300 kB a second at most, however large the fleet. */
function workersEveryMs(workers: number): number {
  return Math.max(1_000, workers);
}

function merged(
  before: ReadonlyMap<string, Member>,
  changed: readonly Member[],
  gone: readonly string[],
): ReadonlyMap<string, Member> {
  const members = new Map([...before, ...byWorker(changed)]);
  for (const id of gone) members.delete(id);
  return members;
}

function detailChange(
  source: FleetSource,
  before: Experiment | undefined,
  after: Experiment,
): DetailChange {
  const isSame = (part: "results" | "timeline"): boolean => before?.[part] === after[part];
  return {
    experiment: toSummary(source, after),
    ...(isSame("results") ? {} : { results: toExperimentView(source, after).results }),
    ...(isSame("timeline") ? {} : { timeline: toTimeline(after) }),
    ...(before?.curves === after.curves
      ? {}
      : { curves: curvesChange(before?.curves ?? {}, after.curves) }),
  };
}

function curvesChange(before: Curves, after: Curves): NonNullable<DetailChange["curves"]> {
  const stages = Object.entries(after) as [StageName, Curves[StageName] & object][];
  const changes = stages.map(([stage, { training, quality, lossBound }]) => {
    const trainingChange = curveChange(before[stage]?.training ?? [], training);
    const qualityChange = curveChange(before[stage]?.quality ?? [], quality);
    const change: StageCurvesChange = {
      ...(trainingChange ? { training: trainingChange } : {}),
      ...(qualityChange ? { quality: qualityChange } : {}),
      ...(lossBound === undefined ? {} : { lossBound }),
    };
    return [stage, change];
  });
  return Object.fromEntries(changes);
}

function byId(experiments: readonly Experiment[]): ReadonlyMap<string, Experiment> {
  return new Map(experiments.map((experiment) => [experiment.id, experiment]));
}

function byWorker(members: readonly Member[]): ReadonlyMap<string, Member> {
  return new Map(members.map((member) => [member.facts.id, member]));
}
