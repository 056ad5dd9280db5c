/**
 * A member of a gang in a process of its own. The parent sends one {@link MemberTask} over the IPC
 * channel; the process ends by itself once nothing keeps it alive.
 */

import type { Peer } from "../../../worker/collective/membership.ts";
import { joinGroup } from "../../../worker/collective/peer-group.ts";
import { joinDefaults, startLoopbackServer } from "./gang.ts";
import { sharedFloats } from "./shared-floats.ts";

export interface MemberTask {
  readonly rank: number;
  /** This process's own address may be missing: it is filled in. */
  readonly peers: readonly Peer[];
  /** All-reduce for ever, or once before leaving. */
  readonly work: "reduce-for-ever" | "reduce-once";
  readonly floats: number;
}

export type MemberMessage =
  | { readonly type: "listening"; readonly address: string }
  | { readonly type: "reducing" }
  | { readonly type: "reduced"; readonly first: number };

function tell(message: MemberMessage): void {
  process.send?.(message);
}

const server = await startLoopbackServer();
process.once("message", (task: MemberTask) => {
  void carryOut(task);
});
tell({ type: "listening", address: server.address });

async function carryOut(task: MemberTask): Promise<void> {
  const group = await joinGroup({ ...joinDefaults(server, task.rank), peers: task.peers });
  do {
    tell({ type: "reducing" });
    const buffer = sharedFloats(task.floats).fill(task.rank);
    await group.allReduce(buffer);
    tell({ type: "reduced", first: buffer[0] ?? 0 });
  } while (task.work === "reduce-for-ever");
  await group.close();
  await server.close();
  process.disconnect?.();
}
