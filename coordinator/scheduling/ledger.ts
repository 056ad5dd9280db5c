/** The experiments that the coordinator knows, with their recipes. Shell of experiment/. */

import { FleetError } from "../../proto/errors.ts";
import type { Log } from "../../proto/log.ts";
import {
  type Experiment,
  type ExperimentEffect,
  type ExperimentEvent,
  isFinished,
} from "../experiment/experiment.ts";
import { step } from "../experiment/experiment-step.ts";
import type { TimelineEntry } from "../experiment/timeline.ts";
import type { Store, StoredExperiment } from "../store/store.ts";

/** The oldest finished experiments beyond this number are forgotten. */
const FINISHED_KEPT_MAX = 500;

export type ExperimentListener = (experiment: Experiment) => void;

export class Ledger {
  readonly #experiments = new Map<string, Experiment>();
  readonly #recipes = new Map<string, string>();
  readonly #listeners = new Map<string, Set<ExperimentListener>>();
  readonly #store: Pick<Store, "save" | "forget">;
  readonly #log: Log;
  readonly #unixMs: () => number;
  readonly #onEffect: (experiment: Experiment, effect: ExperimentEffect) => void;

  constructor(options: {
    readonly store: Pick<Store, "save" | "forget">;
    readonly log: Log;
    readonly unixMs: () => number;
    readonly onEffect: (experiment: Experiment, effect: ExperimentEffect) => void;
  }) {
    this.#store = options.store;
    this.#log = options.log;
    this.#unixMs = options.unixMs;
    this.#onEffect = options.onEffect;
  }

  /** In the order of submission. */
  all(): readonly Experiment[] {
    return [...this.#experiments.values()];
  }

  find(id: string): Experiment | undefined {
    return this.#experiments.get(id);
  }

  /** @throws {FleetError} NOT_FOUND */
  get(id: string): Experiment {
    const experiment = this.#experiments.get(id);
    if (!experiment) throw new FleetError("NOT_FOUND", `there is no experiment ${id}`);
    return experiment;
  }

  /** The resolved recipe, JSON. */
  recipeJson(id: string): string {
    return this.#recipes.get(id) ?? "{}";
  }

  /** Takes an experiment that is in the store already. */
  take({ experiment, recipeJson }: StoredExperiment): void {
    this.#experiments.set(experiment.id, experiment);
    this.#recipes.set(experiment.id, recipeJson);
  }

  forgetOldest(): void {
    const finished = this.all().filter(isFinished);
    for (const old of finished.slice(0, Math.max(0, finished.length - FINISHED_KEPT_MAX))) {
      this.#experiments.delete(old.id);
      this.#recipes.delete(old.id);
      this.#store.forget(old);
    }
  }

  /** Calls `listener` after each change of the experiment; returns the way to stop that. */
  watch(id: string, listener: ExperimentListener): () => void {
    const listeners = this.#listeners.get(id) ?? new Set();
    this.#listeners.set(id, listeners.add(listener));
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0) this.#listeners.delete(id);
    };
  }

  /**
   * Puts an event to an experiment; one that is unknown has nothing to change.
   *
   * @throws {FleetError} STATE_CONFLICT as experiment-step.ts
   */
  apply(id: string, event: ExperimentEvent): void {
    const before = this.#experiments.get(id);
    if (!before) return;
    const { experiment, effects } = step(before, event, this.#unixMs());
    if (experiment === before) return;

    this.#experiments.set(id, experiment);
    this.#store.save(experiment);
    this.#logNews(before, experiment);
    for (const effect of effects) this.#onEffect(experiment, effect);
    for (const listener of this.#listeners.get(id) ?? []) listener(experiment);
  }

  #logNews(before: Experiment, after: Experiment): void {
    const known = before.timeline.at(-1)?.sequence ?? 0;
    for (const entry of after.timeline) {
      if (entry.sequence <= known) continue;
      const { sequence: _, unixMs: __, type, message: because, ...fields } = entry;
      const event = type === "state" ? "experiment" : type.replaceAll("-", " ");
      const line = { event, experiment: after.id, ...fields, because };
      this.#log[levelOf(entry)](line);
    }
  }
}

/** What somebody should look at stands out. */
function levelOf(entry: TimelineEntry): "info" | "warn" | "error" {
  switch (entry.type) {
    case "state":
      return entry.to === "failed" ? "error" : "info";
    case "failure":
    case "contact-lost":
    case "worker-lost":
    case "job-failed":
    case "storage-problem":
    case "straggler":
    case "stop-overdue":
      return "warn";
    default:
      return "info";
  }
}
