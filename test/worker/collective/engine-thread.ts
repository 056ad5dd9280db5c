/** Stands in for the engine thread: carries one task out on the blocking side of a bridge. */

import { parentPort, workerData } from "node:worker_threads";
import { FleetError, type PlainError } from "../../../proto/errors.ts";
import { connectGroup, type GroupLink } from "../../../worker/collective/bridge.ts";
import { type ProcessGroup, sharedFloats } from "../../../worker/collective/process-group.ts";
import { callsOf } from "./calls-of.ts";

export type EngineTask = keyof typeof TASKS;

export interface EngineTaskData {
  readonly link: GroupLink;
  readonly task: EngineTask;
}

export interface EngineResult {
  /** What the task has returned, or the error that ended it. */
  readonly values?: readonly number[];
  readonly error?: PlainError;
}

const TASKS = {
  /** Sums in flight, large and small, with a gather in between. */
  reduce: ({ rank, allReduce, allGather }) => {
    const buffers = [200_000, 10, 300_000, 0].map((length) => sharedFloats(length).fill(rank + 1));
    const works = buffers.map((buffer) => allReduce(buffer));
    const gathered = allGather(Float32Array.of(rank));
    for (const work of works.reverse()) work.wait();
    works[0]?.wait();
    return [...buffers.map((buffer) => buffer.at(-1) ?? -1), ...gathered];
  },
  /** The rank's own part: the other is undefined. */
  scatter: ({ rank, worldSize, reduceScatter }) => {
    const buffer = sharedFloats(100_000 * worldSize).fill(rank + 1);
    reduceScatter(buffer).wait();
    return [buffer[100_000 * rank]!, buffer[100_000 * (rank + 1) - 1]!];
  },
  /** Each result is the caller's own: a later gather does not change it. */
  gather: ({ rank, allGather }) => {
    const first = allGather(Float32Array.of(rank, 10));
    const second = allGather(new Float32Array(300_000).fill(rank + 0.5));
    const third = allGather(Float32Array.of(7));
    return [...first, second.length, second[0]!, second.at(-1)!, ...third];
  },
  /** Whether the time of all-reduces grows with each of them, and with nothing else. */
  time: (peers) => {
    const seconds = [peers.allReduceSeconds];
    for (const length of [10, 100_000]) {
      peers.allReduce(sharedFloats(length)).wait();
      seconds.push(peers.allReduceSeconds);
      peers.barrier();
      seconds.push(peers.allReduceSeconds);
    }
    const growth = seconds.slice(1).map((now, k) => Math.sign(now - seconds[k]!));
    return [seconds[0]!, ...growth];
  },
  /** Seconds that this rank waits in each collective that rank 0 comes late to, and how late. */
  late: (peers) => {
    const lateMs = 200;
    const collectives = [
      () => peers.allGather(Float32Array.of(1)),
      () => peers.barrier(),
      () => peers.allReduce(sharedFloats(10)).wait(),
      () => peers.allReduce(sharedFloats(100_000)).wait(),
    ];
    peers.barrier();
    const waited = collectives.map((collective) => {
      if (peers.rank === 0) Atomics.wait(new Int32Array(sharedFloats(1).buffer), 0, 0, lateMs);
      const before = peers.waitedSeconds;
      collective();
      return peers.waitedSeconds - before;
    });
    return [...waited, lateMs / 1000];
  },
  broadcast: ({ rank, broadcast, barrier }) => {
    const buffer = sharedFloats(100_000).fill(rank);
    broadcast(buffer, 1);
    barrier();
    return [buffer[0]!, buffer.at(-1)!];
  },
  /** Sums of all sizes in memory that the ranks share where they can. */
  allocated: ({ rank, allocate, allReduce, reduceScatter, worldSize }) => {
    const lengths = [10, 10_000, 200_000, 1_000_000];
    const buffers = lengths.map((length) => allocate(length).fill(rank + 1));
    const works = buffers.map((buffer) => allReduce(buffer));
    for (const work of works) work.wait();
    const part = allocate(100_000 * worldSize).fill(rank + 1);
    reduceScatter(part).wait();
    return [...buffers.map((buffer) => buffer.at(-1)!), part[100_000 * rank]!];
  },
  /** Ranks that have diverged. */
  diverge: ({ rank, allGather, barrier }) => {
    if (rank === 0) barrier();
    else allGather(Float32Array.of(1));
    return [];
  },
  /** Exchanges and checks until the generation ends. */
  exchange: ({ rank, worldSize, allGather, allReduce, barrier }) => {
    for (let round = 0; ; round++) {
      const gathered = allGather(Float32Array.of(rank, round));
      const buffer = sharedFloats(20_000).fill(round % 1000);
      allReduce(buffer).wait();
      barrier();
      const isRight =
        gathered.every((value, i) => value === (i % 2 === 0 ? i / 2 : round)) &&
        buffer.every((value) => value === worldSize * (round % 1000));
      if (!isRight) return [round];
      if (round === 100) parentPort?.postMessage("under way");
    }
  },
  once: ({ allGather }) => [...allGather(Float32Array.of(1))],
  twice: ({ allGather }) => [1, 2].flatMap((value) => [...allGather(Float32Array.of(value))]),
  /** Waits for what never comes, and then asks for more. */
  hang: ({ allReduce, barrier }) => {
    const work = allReduce(sharedFloats(300_000));
    const failures: unknown[] = [];
    for (const action of [() => work.wait(), () => work.wait(), barrier]) {
      try {
        action();
      } catch (thrown) {
        failures.push(thrown);
      }
    }
    if (new Set(failures.map(String)).size !== 1 || failures.length !== 3) return [failures.length];
    throw failures[0];
  },
} as const satisfies Record<string, (group: ProcessGroup) => readonly number[]>;

function carryOut({ link, task }: EngineTaskData): EngineResult {
  let group: ReturnType<typeof connectGroup> | undefined;
  try {
    group = connectGroup(link);
    return { values: TASKS[task](callsOf(group)) };
  } catch (thrown) {
    return { error: FleetError.from(thrown).toPlain() };
  } finally {
    group?.close();
  }
}

parentPort?.postMessage(carryOut(workerData as EngineTaskData));
