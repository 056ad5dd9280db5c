/** Watches how fast the ranks of running gangs are. Shell of gang/stragglers.ts. */

import { type Experiment, gangOf } from "../experiment/experiment.ts";
import { hearTimes, type RankStates, type Straggler } from "../gang/stragglers.ts";
import type { RankTimes } from "../member/member.ts";
import type { Ledger } from "./ledger.ts";

interface Watched {
  readonly generation: number;
  readonly ranks: RankStates;
}

export class StragglerWatch {
  readonly #ledger: Ledger;
  readonly #watched = new Map<string, Watched>();

  constructor(ledger: Ledger) {
    this.#ledger = ledger;
  }

  /** What a member of the experiment's gang says of its own steps. */
  hear(
    experimentId: string,
    worker: { readonly id: string; readonly name: string },
    times: RankTimes,
  ) {
    const experiment = this.#ledger.find(experimentId);
    if (experiment?.phase.status !== "running") return;
    const { generation, stragglerFactor: factor } = experiment;
    const rank = gangOf(experiment).indexOf(worker.id);
    if (rank < 0) return;

    const before = this.#ranksOf(experiment);
    const ranks = hearTimes(before, { rank, times, factor });
    this.#watched.set(experimentId, { generation, ranks });
    const was = before.get(rank)?.straggler;
    const is = ranks.get(rank)?.straggler;
    if ((was === undefined) === (is === undefined)) return;
    const { name } = worker;
    const { step = 0 } = experiment.progress ?? {};
    this.#ledger.apply(experimentId, {
      type: "noted",
      occurrence: is ? "straggler" : "straggler-over",
      message: is ? describeStraggler(is, name) : `rank ${rank} (${name}) keeps up again`,
      rank,
      worker: worker.id,
      step,
    });
  }

  /** Those of the present gang that are named, by rank. */
  of(experiment: Experiment): readonly Straggler[] {
    const ranks = [...this.#ranksOf(experiment).values()];
    return ranks
      .flatMap(({ straggler }) => (straggler ? [straggler] : []))
      .toSorted((a, b) => a.rank - b.rank);
  }

  forgetEnded(): void {
    for (const id of this.#watched.keys()) {
      if (this.#ledger.find(id)?.phase.status !== "running") this.#watched.delete(id);
    }
  }

  #ranksOf({ id, generation, phase }: Experiment): RankStates {
    const watched = this.#watched.get(id);
    const isPresent = watched?.generation === generation && phase.status === "running";
    return isPresent ? watched.ranks : new Map();
  }
}

function describeStraggler({ rank, ratio, phase }: Straggler, name: string): string {
  return `rank ${rank} (${name}) takes ${ratio.toFixed(1)} x as long as the others: ${phase}`;
}
