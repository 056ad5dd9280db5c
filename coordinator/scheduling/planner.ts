/**
 * The planner's memory: what it said last, from which it takes how long things have been so, and
 * which workers their peers could not reach. Shell of gang/.
 */

import type { Log } from "../../proto/log.ts";
import type { Experiment } from "../experiment/experiment.ts";
import { toRequest } from "../gang/gang-request.ts";
import { type GangPlan, planGangs } from "../gang/plan-gangs.ts";
import {
  briefSuspicionAfter,
  type Suspicion,
  suspectsOf,
  suspicionAfter,
} from "../gang/suspects.ts";
import type { Candidate } from "../gang/worker-pool.ts";

/** A worker that has been there for so many leases is taken for one that stays. */
const GROWTH_LEASES = 2;

/** By experiment. */
export type Hints = Pick<ReadonlyMap<string, string>, "get">;

/** What one member of a gang has said on leaving. */
interface Accusation {
  readonly worker: string;
  readonly generation: number;
  readonly lostRanks: readonly number[];
  /** By a monotonic clock. */
  readonly nowMs: number;
}

/** What the members of a gang have said on leaving. */
interface Accusations {
  readonly generation: number;
  readonly lostRanks: Map<string, readonly number[]>;
}

export class Planner {
  readonly #log: Log;
  readonly #growthDelayMs: number;
  readonly #hints: Hints;
  #plans: readonly GangPlan[] = [];
  readonly #accusations = new Map<string, Accusations>();
  readonly #suspicions = new Map<string, Suspicion>();

  constructor(options: {
    readonly log: Log;
    readonly leaseMs: number;
    /** By experiment: what else keeps it waiting, for people. */
    readonly hints: Hints;
  }) {
    this.#log = options.log;
    this.#growthDelayMs = GROWTH_LEASES * options.leaseMs;
    this.#hints = options.hints;
  }

  /** Plans for all experiments; `nowMs` is of a monotonic clock. */
  plan(
    experiments: readonly Experiment[],
    options: {
      /** Experiments whose present stage the queue has let go. */
      readonly handedOver: ReadonlySet<string>;
      readonly fleet: readonly Candidate[];
      readonly nowMs: number;
    },
  ): readonly GangPlan[] {
    const { handedOver, fleet, nowMs } = options;
    for (const experiment of experiments) this.#acquit(experiment);
    const requests = experiments.flatMap(
      (experiment) => toRequest(experiment, handedOver.has(experiment.id)) ?? [],
    );
    const suspects = this.#suspects(nowMs);
    const growthDelayMs = this.#growthDelayMs;
    const input = { requests, fleet, suspects, before: this.#plans, nowMs, growthDelayMs };
    this.#plans = planGangs(input);
    return this.#plans.map((plan) => this.#withHint(plan));
  }

  #withHint(plan: GangPlan): GangPlan {
    const hint = this.#hints.get(plan.experimentId);
    if (plan.type !== "wait" || hint === undefined) return plan;
    return { ...plan, reason: `${plan.reason}; ${hint}` };
  }

  /** Takes down which ranks a member of `experiment`'s newest gang has lost. */
  accuse(experiment: Experiment | undefined, said: Accusation): void {
    const { worker, generation, lostRanks, nowMs } = said;
    if (experiment?.generation !== generation) return;
    const { id, lastGang } = experiment;
    if (!lastGang.includes(worker)) return;

    const known = this.#accusations.get(id);
    const accusations =
      known?.generation === generation ? known : { generation, lostRanks: new Map() };
    this.#accusations.set(id, accusations);
    const before = suspectsOf(lastGang, accusations.lostRanks);
    accusations.lostRanks.set(worker, lostRanks);
    for (const suspect of suspectsOf(lastGang, accusations.lostRanks)) {
      if (before.includes(suspect)) continue;
      const wasReached = experiment.settled?.generation === generation;
      const suspicionNow = wasReached ? briefSuspicionAfter : suspicionAfter;
      const suspicion = suspicionNow(this.#suspicions.get(suspect), nowMs);
      this.#suspicions.set(suspect, suspicion);
      const because = "most of its peers could not reach it";
      const { lastsMs } = suspicion;
      this.#log.warn({ event: "worker suspect", worker: suspect, generation, lastsMs, because });
    }
  }

  #suspects(nowMs: number): ReadonlySet<string> {
    const present = [...this.#suspicions].filter(([, { endMs }]) => nowMs < endMs);
    return new Set(present.map(([worker]) => worker));
  }

  /** Whoever takes a step with its gang is within reach. */
  #acquit({ id, generation, settled, phase }: Experiment): void {
    if (phase.status !== "running" || settled?.generation !== generation) return;
    this.#accusations.delete(id);
    for (const worker of phase.gang) this.#suspicions.delete(worker);
  }
}
