/** What gangs of a simulated fleet really did, whatever the scheduler has heard of it. */

import type { StageName } from "../../proto/recipe.ts";

/** A stage of an experiment. */
interface Work {
  readonly experimentId: string;
  readonly stage: StageName;
}

export class SimulatedTraining {
  /** Every generation ever assigned, with its ranks. */
  readonly assigned = new Map<number, ReadonlyMap<number, string>>();
  /** Workers that a peer could not reach: they may be planned with last. */
  readonly missed = new Set<string>();
  /** Ranks that have finished, by generation. */
  readonly #finished = new Map<number, Set<number>>();
  /** Newest checkpoint of each stage. */
  readonly #checkpoints = new Map<string, number>();
  /** The step of each worker's replica, which outlives its gang. */
  readonly #replicas = new Map<string, { readonly work: string; readonly step: number }>();

  miss(workerIds: readonly string[]): void {
    for (const id of workerIds) this.missed.add(id);
  }

  finish(generation: number, rank: number): void {
    const ranks = this.#finished.get(generation) ?? new Set();
    this.#finished.set(generation, ranks.add(rank));
  }

  finishedCount(generation: number): number {
    return this.#finished.get(generation)?.size ?? 0;
  }

  hasFinished(workerId: string, generation: number): boolean {
    const gang = this.assigned.get(generation) ?? new Map<number, string>();
    return [...gang].some(
      ([rank, id]) => id === workerId && this.#finished.get(generation)?.has(rank),
    );
  }

  writeCheckpoint(work: Work, step: number): void {
    this.#checkpoints.set(nameOf(work), step);
  }

  keepReplica(workerId: string, work: Work, step: number): void {
    this.#replicas.set(workerId, { work: nameOf(work), step });
  }

  forgetReplica(workerId: string): void {
    this.#replicas.delete(workerId);
  }

  /** Where a gang begins: with its members' newest replica, or else the newest checkpoint. */
  firstStep(work: Work, workerIds: readonly string[]): number {
    const held = workerIds.flatMap((id) => {
      const replica = this.#replicas.get(id);
      return replica?.work === nameOf(work) ? [replica.step] : [];
    });
    return held.length > 0 ? Math.max(...held) : (this.#checkpoints.get(nameOf(work)) ?? 0);
  }
}

function nameOf({ experimentId, stage }: Work): string {
  return `${experimentId}/${stage}`;
}
