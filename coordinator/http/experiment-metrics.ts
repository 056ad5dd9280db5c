/** Metrics of experiments by state, and of what those that are not finished have gone through. */

import { Counter, Gauge, type Registry } from "prom-client";
import { type Experiment, isFinished } from "../experiment/experiment.ts";
import { wallSecondsAt } from "../experiment/goodput.ts";
import type { Status } from "../experiment/phase.ts";
import { historyOf } from "../experiment/timeline.ts";
import type { Clock, Scheduler } from "../scheduling/scheduler.ts";

const STATES = [
  "waiting",
  "forming",
  "running",
  "stopping",
  "succeeded",
  "failed",
  "cancelled",
  "paused",
] as const satisfies readonly Status[];

interface ExperimentSource {
  readonly scheduler: Pick<Scheduler, "experiments">;
  readonly clock: Clock;
}

interface ExperimentCounter {
  readonly help: string;
  /** A figure, or one for each value of `label`; undefined where there is none yet. */
  readonly read: (
    experiment: Experiment,
    nowUnixMs: number,
  ) => number | Readonly<Record<string, number>> | undefined;
  readonly label?: string;
}

/** Their series go when the experiment is finished. */
const COUNTERS: Readonly<Record<string, ExperimentCounter>> = {
  simclr_experiment_restarts_total: {
    help: "How often an unfinished experiment's gang was formed anew after it broke up.",
    label: "reason",
    read: ({ restarts }) => restarts,
  },
  simclr_experiment_lost_steps_total: {
    help: "Steps of an unfinished experiment that had to be taken again after restarts.",
    read: ({ lostSteps }) => lostSteps,
  },
  simclr_experiment_wall_seconds_total: {
    help: "Time since an unfinished experiment's first gang was formed, less its pauses.",
    read: ({ goodput }, now) => goodput && wallSecondsAt(goodput, now),
  },
  simclr_experiment_productive_seconds_total: {
    help: "The part of it that went into steps, each counted once however often it was taken.",
    read: ({ goodput }) => goodput?.productiveSeconds,
  },
};

export function addExperimentMetrics(
  registry: Registry,
  { scheduler, clock }: ExperimentSource,
): void {
  new Gauge({
    name: "simclr_experiments",
    help: "Experiments by state.",
    labelNames: ["state"],
    registers: [registry],
    collect() {
      const experiments = scheduler.experiments();
      for (const state of STATES) {
        this.set({ state }, experiments.filter(({ phase }) => phase.status === state).length);
      }
    },
  });
  new Gauge({
    name: "simclr_queue_oldest_wait_seconds",
    help: "How long the experiment that has waited longest has been waiting; 0 when none waits.",
    registers: [registry],
    collect() {
      const waiting = scheduler.experiments().filter(({ phase }) => phase.status === "waiting");
      const now = clock.unixMs();
      this.set(Math.max(0, ...waiting.map((one) => (now - waitingSince(one)) / 1_000)));
    },
  });
  for (const [name, { help, read, label }] of Object.entries(COUNTERS)) {
    new Counter({
      name,
      help,
      labelNames: ["experiment", ...(label ? [label] : [])],
      registers: [registry],
      collect() {
        this.reset();
        for (const experiment of scheduler.experiments().filter((one) => !isFinished(one))) {
          const figures = read(experiment, clock.unixMs());
          const { id } = experiment;
          if (typeof figures === "number") this.inc({ experiment: id }, figures);
          else if (label) {
            for (const [value, figure] of Object.entries(figures ?? {})) {
              this.inc({ experiment: id, [label]: value }, figure);
            }
          }
        }
      },
    });
  }
}

/** Unix time in ms of its last change of state. */
function waitingSince({ timeline, submittedUnixMs }: Experiment): number {
  return historyOf(timeline).at(-1)?.unixMs ?? submittedUnixMs;
}
