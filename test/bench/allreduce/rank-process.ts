/** One rank in a process of its own, with a worker's two threads. Joins, measures, and ends. */

import { once } from "node:events";
import { FleetError } from "../../../proto/errors.ts";
import { bridgeGroup } from "../../../worker/collective/bridge.ts";
import { joinGroup } from "../../../worker/collective/peer-group.ts";
import { startPeerServer } from "../../../worker/collective/peer-server.ts";
import { startThread } from "../../../worker/session/threads.ts";
import type { RankMessage, RankTask, RankThreadData } from "./spec.ts";

const FORMATION_TIMEOUT_MS = 60_000;

// Nobody is left to tell.
const endWithBench = (): boolean => process.kill(process.pid, "SIGKILL");
process.once("disconnect", endWithBench);

const server = await startPeerServer({ host: "127.0.0.1", port: 0, joinToken: "" });
const assigned = once(process, "message");
await tell({ type: "listening", address: server.address });
const [task] = (await assigned) as [RankTask];
try {
  await tell(await measure(task));
} catch (thrown) {
  await tell({ type: "failed", error: FleetError.from(thrown).toPlain() });
}
await server.close();
process.off("disconnect", endWithBench);
process.disconnect();

async function measure({ rank, peers, spec }: RankTask): Promise<RankMessage> {
  const group = await joinGroup({
    server,
    experimentId: "bench-allreduce",
    generation: 1,
    rank,
    peers,
    wire: spec.wire,
    formationTimeoutMs: FORMATION_TIMEOUT_MS,
    joinToken: "",
    sharedMemory: spec.transport === "auto",
  });
  const bridge = await bridgeGroup(group);
  const thread = startThread("./rank-thread", import.meta.url, undefined);
  try {
    const data: RankThreadData = { link: bridge.link, spec };
    thread.postMessage(data, [bridge.link.port]);
    const [message] = (await once(thread, "message")) as [RankMessage];
    return message;
  } finally {
    bridge.close();
    await group.close();
    await thread.terminate();
  }
}

function tell(message: RankMessage): Promise<void> {
  return new Promise((resolve) => {
    process.send?.(message, undefined, undefined, () => resolve());
  });
}
