/** Gives every rank the state that one of them holds. */

import { type ProcessGroup, sharedFloats } from "../collective/process-group.ts";
import type { NamedTensors } from "../model/model-state.ts";
import type { Trained } from "./checkpoint-writer.ts";

/** Overwrites weights, statistics and momentum of every rank by those of `root`. */
export function broadcastState(group: ProcessGroup, model: Trained, root: number): void {
  if (group.worldSize === 1) return;
  const { tensors, batchesTracked } = model.exportState();
  const velocities = model.exportVelocities();
  const tracked = joinCount(group.allGather(splitCount(batchesTracked)), root);
  broadcastTensors(group, tensors, root);
  broadcastTensors(group, velocities, root);
  if (group.rank === root) return;
  model.importState({ tensors, batchesTracked: tracked });
  model.importVelocities(velocities);
}

/** In place, by those of `root`; names, order and shapes are equal on all ranks. */
export function broadcastTensors(group: ProcessGroup, tensors: NamedTensors, root: number): void {
  let total = 0;
  for (const { data } of tensors.values()) total += data.length;
  const flat = sharedFloats(total);
  let at = 0;
  for (const { data } of tensors.values()) {
    flat.set(data, at);
    at += data.length;
  }
  group.broadcast(flat, root);
  at = 0;
  for (const { data } of tensors.values()) {
    data.set(flat.subarray(at, at + data.length));
    at += data.length;
  }
}

/** What `root` has, on every rank: something small that JSON can carry. */
export function broadcastJson<T>(group: ProcessGroup, own: T, root: number): T {
  const bytes = Buffer.from(JSON.stringify(own));
  const length = joinCount(group.allGather(splitCount(bytes.length)), root);
  // A byte a float: these are a few hundred bytes.
  const floats = sharedFloats(length);
  if (group.rank === root) floats.set(bytes);
  group.broadcast(floats, root);
  return JSON.parse(Buffer.from(floats).toString("utf8")) as T;
}

/** A whole number below 2^48 as two floats that hold it exactly. */
export function splitCount(value: number): Float32Array {
  return Float32Array.of(Math.floor(value / 2 ** 24), value % 2 ** 24);
}

/** The number that {@link splitCount} put at pair `index`. */
export function joinCount(pairs: Float32Array, index: number): number {
  return (pairs[2 * index] ?? 0) * 2 ** 24 + (pairs[2 * index + 1] ?? 0);
}
