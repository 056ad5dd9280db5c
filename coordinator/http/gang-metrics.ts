/** Metrics of gangs at work, and of their ranks: for as long as an experiment has a gang. */

import { Gauge, type Registry } from "prom-client";
import { type Experiment, gangOf, presentStage } from "../experiment/experiment.ts";
import type { TimelineEntry } from "../experiment/timeline.ts";
import type { Member, RankTimes } from "../member/member.ts";
import type { Scheduler } from "../scheduling/scheduler.ts";

export interface GangSource {
  readonly scheduler: Pick<Scheduler, "experiments" | "members" | "stragglers">;
}

/** One reading of a gauge. */
interface Reading {
  readonly labels: Readonly<Record<string, string | number>>;
  readonly value: number;
}

interface GangGauge {
  readonly help: string;
  readonly labels: readonly string[];
  readonly read: (experiment: Experiment, source: GangSource) => readonly Reading[];
}

const GAUGES: Readonly<Record<string, GangGauge>> = {
  simclr_stage_generation: {
    help: "Generation of the stage's gang.",
    labels: ["experiment", "stage"],
    read: (experiment) => [{ labels: ofStage(experiment), value: experiment.generation }],
  },
  simclr_stage_workers: {
    help: "Workers of the stage's gang: how many it has, and for how many it has ranks.",
    labels: ["experiment", "stage", "count"],
    read: (experiment) => {
      const stage = ofStage(experiment);
      const { ranks: want } = presentStage(experiment);
      return [
        { labels: { ...stage, count: "have" }, value: gangOf(experiment).length },
        { labels: { ...stage, count: "want" }, value: want },
      ];
    },
  },
  simclr_stage_storage_problem: {
    help: "1 while checkpoints or log lines cannot be written.",
    labels: ["experiment", "stage"],
    read: (experiment) => {
      const { progress } = experiment;
      if (!progress) return [];
      const value = Number(progress.storageProblem !== undefined);
      return [{ labels: ofStage(experiment), value }];
    },
  },
  simclr_stage_checkpoint_timestamp_seconds: {
    help: "Unix time at which the stage's newest checkpoint was durable.",
    labels: ["experiment", "stage"],
    read: (experiment) => {
      const { name } = presentStage(experiment);
      const isOurs = ({ type, stage }: TimelineEntry): boolean =>
        type === "checkpoint" && stage === name;
      const newest = experiment.timeline.findLast(isOurs);
      return newest ? [{ labels: ofStage(experiment), value: newest.unixMs / 1_000 }] : [];
    },
  },
  simclr_stage_straggler_ratio: {
    help: "Own step time over that of the others, of ranks that are named as stragglers.",
    labels: ["experiment", "rank"],
    read: (experiment, { scheduler }) =>
      scheduler.stragglers(experiment).map(({ rank, ratio }) => {
        return { labels: { experiment: experiment.id, rank }, value: ratio };
      }),
  },
  simclr_rank_step_seconds: {
    help: "A rank's own part of a step, without waiting for other ranks; running mean.",
    labels: ["experiment", "rank"],
    read: (experiment, source) =>
      timesOf(experiment, source, ({ ownStepSeconds }) => ownStepSeconds),
  },
  simclr_rank_data_seconds: {
    help: "The part of it that the rank waits for data; running mean.",
    labels: ["experiment", "rank"],
    read: (experiment, source) => timesOf(experiment, source, ({ dataSeconds }) => dataSeconds),
  },
};

export function addGangMetrics(registry: Registry, source: GangSource): void {
  for (const [name, { help, labels, read }] of Object.entries(GAUGES)) {
    new Gauge({
      name,
      help,
      labelNames: [...labels],
      registers: [registry],
      collect() {
        this.reset();
        const atWork = source.scheduler.experiments().filter((one) => gangOf(one).length > 0);
        for (const reading of atWork.flatMap((experiment) => read(experiment, source))) {
          this.set(reading.labels, reading.value);
        }
      },
    });
  }
}

function ofStage(experiment: Experiment): Readonly<Record<string, string>> {
  return { experiment: experiment.id, stage: presentStage(experiment).name };
}

function timesOf(
  { id, generation }: Experiment,
  { scheduler }: GangSource,
  figure: (times: RankTimes) => number,
): readonly Reading[] {
  return scheduler.members().flatMap((member: Member): Reading[] => {
    if (member.status !== "busy" || member.times === undefined) return [];
    const { assignment, times } = member;
    if (assignment.experimentId !== id || assignment.generation !== generation) return [];
    if (assignment.rank === undefined) return [];
    return [{ labels: { experiment: id, rank: assignment.rank }, value: figure(times) }];
  });
}
