/** Does what the rules of an experiment ask for: tells workers, and the store. */

import type { Experiment, ExperimentEffect } from "../experiment/experiment.ts";
import type { Store } from "../store/store.ts";
import type { Ledger } from "./ledger.ts";
import type { Roster } from "./roster.ts";

export interface Hands {
  readonly roster: Roster;
  readonly ledger: Ledger;
  readonly store: Pick<Store, "stageEnded" | "requeue">;
  /** Experiments whose present stage the queue has let go. */
  readonly handedOver: Set<string>;
}

export function carryOut(experiment: Experiment, effect: ExperimentEffect, hands: Hands): void {
  const { id: experimentId } = experiment;
  const { roster, ledger, store, handedOver } = hands;
  switch (effect.type) {
    case "assign": {
      const { generation, stage, gang } = effect;
      const peers = gang.map((workerId) => ({
        workerId,
        address: roster.get(workerId)?.facts.peerAddress ?? "",
      }));
      const recipeJson = ledger.recipeJson(experimentId);
      for (const [rank, worker] of gang.entries()) {
        const assignment = { experimentId, stage, generation, rank };
        roster.apply(worker, { type: "assign", assignment });
        roster.send(worker, { type: "assignment", ...assignment, peers, recipeJson });
      }
      return;
    }
    case "abort": {
      const { workers, ...order } = effect;
      for (const worker of workers) roster.send(worker, { experimentId, ...order });
      return;
    }
    case "release":
      roster.apply(effect.worker, { type: "drained", generation: effect.generation });
      return;
    case "stage-ended":
      handedOver.delete(experimentId);
      store.stageEnded(experiment, effect.stage);
      return;
    case "requeue":
      handedOver.delete(experimentId);
      store.requeue(experiment);
      return;
  }
}
