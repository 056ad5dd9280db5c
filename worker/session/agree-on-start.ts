/**
 * Where a stage starts: the ranks tell one another what they have, and all come to the same.
 *
 * The newest state that any of them has kept in memory is gone on from. Only when none has any, or
 * rank 0 finds a newer checkpoint, that is read.
 */

import { FleetError } from "../../proto/errors.ts";
import type { CheckpointLocation } from "../checkpoint/checkpoint-store.ts";
import type { PeerGroup } from "../collective/peer-group.ts";
import type { StateSource } from "../train/stage-job.ts";
import { joinCount, splitCount } from "../train/sync-state.ts";
import { monitorFacts, type StageData } from "./stage-data.ts";

/** The same on all ranks. */
export interface Start {
  /** Last step that was applied. */
  readonly step: number;
  readonly source: StateSource;
  /** Whether every rank has found the same for the monitor. */
  readonly isMonitored: boolean;
}

export interface Findings {
  readonly data: StageData;
  /** Step of the replica that this worker has kept of the stage; 0 for none. */
  readonly replicaStep: number;
  /** Step of the newest checkpoint, which may turn out to be damaged; 0 for none. Rank 0 only. */
  readonly newestCheckpointStep: () => number;
  /** The newest checkpoint that is whole. Rank 0 only. */
  readonly findCheckpoint: () => CheckpointLocation | undefined;
}

/**
 * @throws {FleetError} DATA_INVALID when ranks see different data sets, GENERATION_ABORTED
 */
export async function agreeOnStart(group: PeerGroup, findings: Findings): Promise<Start> {
  const { data, replicaStep } = findings;
  const isFirst = group.rank === 0;
  const [replicas, checkpoints, trainImages, valImages, ...monitors] = await gatherCounts(group, [
    replicaStep,
    isFirst ? findings.newestCheckpointStep() : 0,
    data.train.count,
    data.validation?.count ?? 0,
    ...monitorFacts(data),
  ]);
  checkEqual(trainImages!, "training");
  checkEqual(valImages!, "validation");
  const isMonitored = monitors.every((fact) =>
    fact.every((count) => count > 0 && count === fact[0]),
  );

  const replica = Math.max(...replicas!);
  if (checkpoints![0]! > replica) {
    const found = isFirst ? findings.findCheckpoint() : undefined;
    const [steps] = await gatherCounts(group, [found?.manifest.step ?? 0]);
    const step = steps![0]!;
    // The newest may have been damaged.
    if (step > replica) {
      const source = { type: "checkpoint", folder: found?.folder ?? "", root: 0 } as const;
      return { step, source, isMonitored };
    }
  }
  if (replica === 0) return { step: 0, source: { type: "initial" }, isMonitored };
  const hasAll = replicas!.every((step) => step === replica);
  const root = hasAll ? undefined : replicas!.indexOf(replica);
  return { step: replica, source: { type: "replica", root }, isMonitored };
}

/** Each of `own`, as all ranks have it, in rank order. */
async function gatherCounts(group: PeerGroup, own: readonly number[]): Promise<number[][]> {
  const all = await group.allGather(Float32Array.from(own.flatMap((n) => [...splitCount(n)])));
  return own.map((_, fact) =>
    Array.from({ length: group.worldSize }, (_, rank) => joinCount(all, own.length * rank + fact)),
  );
}

function checkEqual(images: readonly number[], split: string): void {
  const [first] = images;
  const rank = images.findIndex((count) => count !== first);
  if (rank < 0) return;
  throw new FleetError(
    "DATA_INVALID",
    `rank ${rank} finds ${images[rank]} ${split} images, rank 0 finds ${first}: ` +
      "all workers must see the same data set",
  );
}
