/** Gives every rank the state that rank 0 holds. */

import { type ProcessGroup, sharedFloats } from "../collective/process-group.ts";
import type { NamedTensors } from "../model/model-state.ts";
import type { Trained } from "./checkpoint-writer.ts";

/** Overwrites weights, statistics and momentum of every rank by those of rank 0. */
export function broadcastState(group: ProcessGroup, model: Trained): void {
  if (group.worldSize === 1) return;
  const { tensors, batchesTracked } = model.exportState();
  const velocities = model.exportVelocities();
  const tracked = joinCount(group.allGather(splitCount(batchesTracked)), 0);
  broadcastTensors(group, tensors);
  broadcastTensors(group, velocities);
  if (group.rank === 0) return;
  model.importState({ tensors, batchesTracked: tracked });
  model.importVelocities(velocities);
}

/** In place, by rank 0's; names, order and shapes are equal on all ranks. */
export function broadcastTensors(group: ProcessGroup, tensors: NamedTensors): void {
  let total = 0;
  for (const { data } of tensors.values()) total += data.length;
  const flat = sharedFloats(total);
  let at = 0;
  for (const { data } of tensors.values()) {
    flat.set(data, at);
    at += data.length;
  }
  group.broadcast(flat, 0);
  at = 0;
  for (const { data } of tensors.values()) {
    data.set(flat.subarray(at, at + data.length));
    at += data.length;
  }
}

/** A whole number below 2^48 as two floats that hold it exactly. */
export function splitCount(value: number): Float32Array {
  return Float32Array.of(Math.floor(value / 2 ** 24), value % 2 ** 24);
}

/** The number that {@link splitCount} put at pair `index`. */
export function joinCount(pairs: Float32Array, index: number): number {
  return (pairs[2 * index] ?? 0) * 2 ** 24 + (pairs[2 * index + 1] ?? 0);
}
