/** An experiment whose life a test tells, event by event. */

import type {
  Experiment,
  ExperimentEffect,
  ExperimentEvent,
  StageProgress,
} from "../../coordinator/experiment/experiment.ts";
import { step } from "../../coordinator/experiment/experiment-step.ts";
import { newExperiment, progressOf } from "./experiments.ts";

export const GANG = ["w0", "w1", "w2"];

/** An experiment with what it asked to be done by the last event. */
export class ExperimentRun {
  experiment: Experiment;
  effects: readonly ExperimentEffect[] = [];
  #now = 1_000;

  constructor(experiment: Experiment = newExperiment({ workers: [3, 2] })) {
    this.experiment = experiment;
  }

  get status(): string {
    return this.experiment.phase.status;
  }

  apply(event: ExperimentEvent): this {
    const { experiment, effects } = step(this.experiment, event, this.#now++);
    this.experiment = experiment;
    this.effects = effects;
    return this;
  }

  /** Lets time pass. */
  wait(ms: number): this {
    this.#now += ms;
    return this;
  }

  assign(generation = this.experiment.generation + 1, gang: readonly string[] = GANG): this {
    return this.apply({ type: "assigned", generation, gang });
  }

  progress(step: number, more: Partial<StageProgress> = {}): this {
    const { generation } = this.experiment;
    const progress = { ...progressOf("pretrain", step), ...more };
    return this.apply({ type: "progress", generation, worker: "w0", progress });
  }

  result(worker: string, resultJson?: string): this {
    const { generation } = this.experiment;
    const result = resultJson === undefined ? {} : { resultJson };
    return this.apply({ type: "result", generation, worker, ...result });
  }

  fail(worker: string, more: Partial<Extract<ExperimentEvent, { type: "failure" }>> = {}): this {
    return this.apply({
      type: "failure",
      generation: this.experiment.generation,
      worker,
      code: "GENERATION_ABORTED",
      message: "peer went away",
      unixMs: 5_000,
      step: 0,
      ...more,
    });
  }

  leave(...workers: readonly string[]): this {
    const { generation } = this.experiment;
    for (const worker of workers) {
      const said = { because: "told to", step: 0, lostRanks: [] };
      this.apply({ type: "left", generation, worker, name: `${worker}-name`, ...said });
    }
    return this;
  }

  /** A member that has lost contact with others. */
  accuse(worker: string, lostRanks: readonly number[]): this {
    const { generation } = this.experiment;
    const said = { because: "the group broke", step: 0, lostRanks };
    return this.apply({ type: "left", generation, worker, name: `${worker}-name`, ...said });
  }

  lose(...workers: readonly string[]): this {
    const { generation } = this.experiment;
    for (const worker of workers) {
      const because = "no heartbeat for 5012 ms";
      this.apply({ type: "lost", generation, worker, name: `${worker}-name`, because });
    }
    return this;
  }

  /** What its members were told by the last event: how, and who. */
  get aborts(): readonly (readonly [atStepBoundary: boolean, keep: boolean, string])[] {
    return this.effects.flatMap((effect) =>
      effect.type === "abort"
        ? [[effect.atStepBoundary, effect.keepCheckpoint, effect.workers.join(" ")] as const]
        : [],
    );
  }
}

/** One whose gang has taken its first step. */
export const running = (): ExperimentRun => new ExperimentRun().assign(1).progress(1);
