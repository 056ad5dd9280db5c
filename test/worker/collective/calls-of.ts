import type { ProcessGroup } from "../../../worker/collective/process-group.ts";

/** The calls of a group, bound to it: they can be taken apart, and exchanged one by one. */
export function callsOf(group: ProcessGroup): ProcessGroup {
  return {
    rank: group.rank,
    worldSize: group.worldSize,
    get allReduceSeconds() {
      return group.allReduceSeconds;
    },
    get waitedSeconds() {
      return group.waitedSeconds;
    },
    allocate: (length) => group.allocate(length),
    allReduce: (buffer) => group.allReduce(buffer),
    reduceScatter: (buffer) => group.reduceScatter(buffer),
    allGather: (own) => group.allGather(own),
    broadcast: (buffer, root) => group.broadcast(buffer, root),
    barrier: () => group.barrier(),
  };
}
