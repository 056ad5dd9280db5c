/** What is done to a cluster. Each kind harms it in one way, and proves that it did. */

import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { ERROR_SPECS, type FleetError } from "../../proto/errors.ts";
import type { Prng } from "../support/prng.ts";
import { until } from "../support/until.ts";
import { ask, order } from "./ask-coordinator.ts";
import type { ChaosCluster, Coordinator, Worker } from "./chaos-cluster.ts";

/** Longer than the 5 s in which a silent process is found out. */
const SILENT_MS = { min: 6_500, max: 9_000 };
/** Until a gang has finished its step and written it down. */
const PAUSE_TIMEOUT_MS = 120_000;
/** Until a process has ended that has to. */
const EXIT_TIMEOUT_MS = 60_000;
/** Shorter than anybody's patience. */
const AWAY_MS = { min: 200, max: 4_000 };

interface Victims {
  readonly cluster: ChaosCluster;
  /** The experiment that runs. */
  readonly id: string;
  /** A member of the gang. */
  readonly worker: Worker;
  readonly coordinator: Coordinator;
  readonly prng: Prng;
  /** Ends all waiting. */
  readonly signal: AbortSignal;
}

/** A fault that nobody can have noticed. */
export class Unfelt extends Error {}

/** A fault that has struck. */
export interface Strike {
  /** Who was harmed, and how long. */
  readonly what: string;
  /** Undoes it when its time has come. @returns what proves that it was felt */
  readonly mend: () => Promise<string>;
}

interface Fault {
  /** Whether the gang cannot go on without a new generation. */
  readonly breaksGang: boolean;
  readonly strike: (victims: Victims) => Promise<Strike>;
}

export const FAULTS = {
  "worker killed": {
    breaksGang: true,
    strike: async ({ cluster, worker }) => {
      const { signal } = await cluster.end(worker, "SIGKILL");
      return { what: worker.name, mend: () => replaced(cluster, `ended by ${signal}`) };
    },
  },
  "worker stopped": {
    breaksGang: true,
    strike: async ({ worker, prng, signal }) => {
      const state = await freeze(worker);
      const ms = between(prng, SILENT_MS);
      return {
        what: `${worker.name} for ${ms} ms`,
        mend: async () => {
          await delay(ms, undefined, { signal });
          worker.process.child.kill("SIGCONT");
          return `was in state ${state}`;
        },
      };
    },
  },
  "worker told to leave": {
    breaksGang: true,
    strike: async ({ cluster, worker }) => {
      const ended = cluster.end(worker, "SIGTERM");
      return {
        what: worker.name,
        mend: async () => {
          const code = await exitOf(worker, ended);
          if (code !== PREEMPTED_EXIT) throw new Error(`${worker.name} ended with ${code}`);
          return replaced(cluster, `ended with ${code}`);
        },
      };
    },
  },
  "worker drained": {
    breaksGang: true,
    strike: async ({ cluster, worker }) => {
      cluster.doom(worker);
      await order(cluster, (client) => client.drain(worker.name)).catch((error: FleetError) => {
        // It has left already, by an order that nobody answered.
        if (error.code !== "NOT_FOUND" && error.code !== "STATE_CONFLICT") throw error;
      });
      return {
        what: worker.name,
        mend: async () => {
          const code = await exitOf(worker);
          if (code !== 0) throw new Error(`${worker.name} ended with ${code}`);
          return replaced(cluster, `ended with ${code}`);
        },
      };
    },
  },
  "worker unheard": {
    breaksGang: true,
    strike: async ({ worker, prng, signal }) => hold(worker.name, [worker.peers], { prng, signal }),
  },
  "worker cut off": {
    breaksGang: true,
    strike: async ({ worker, prng, signal }) =>
      hold(worker.name, [worker.peers, ...worker.coordinators], { prng, signal }),
  },
  "connections cut": {
    breaksGang: true,
    strike: async ({ worker }) => {
      const count = worker.peers.cut();
      if (count === 0) throw new Unfelt(`${worker.name} had no connections`);
      return { what: worker.name, mend: async () => `${count} connections` };
    },
  },
  "run paused": {
    breaksGang: true,
    strike: async ({ cluster, id, signal }) => {
      await order(cluster, (client) => client.pause(id)).catch(async (error: FleetError) => {
        if (error.code !== "STATE_CONFLICT") throw error;
        // It was paused already by an order that nobody answered; or it has come to its end.
        const found = await ask(cluster, (client) => client.get(id));
        if (found?.state === "EXPERIMENT_STATE_SUCCEEDED") throw new Unfelt(error.message);
      });
      return {
        what: id,
        mend: async () => {
          const isPaused = async (): Promise<boolean> => {
            signal.throwIfAborted();
            const found = await ask(cluster, (client) => client.get(id));
            return found?.state === "EXPERIMENT_STATE_PAUSED";
          };
          await until("the pause", isPaused, PAUSE_TIMEOUT_MS);
          await order(cluster, (client) => client.resume(id));
          return "was paused, and resumed";
        },
      };
    },
  },
  "coordinator killed": {
    breaksGang: false,
    strike: async ({ cluster, coordinator, prng, signal }) => {
      const exit = await cluster.end(coordinator, "SIGKILL");
      const ms = between(prng, AWAY_MS);
      return {
        what: `${coordinator.name} for ${ms} ms`,
        mend: async () => {
          await delay(ms, undefined, { signal });
          await cluster.startCoordinator(cluster.coordinators.indexOf(coordinator));
          return `ended by ${exit.signal}`;
        },
      };
    },
  },
  "coordinator stopped": {
    breaksGang: false,
    strike: async ({ cluster, coordinator, prng, signal }) => {
      const state = await freeze(coordinator);
      const ms = between(prng, SILENT_MS);
      return {
        what: `${coordinator.name} for ${ms} ms`,
        mend: async () => {
          await delay(ms, undefined, { signal });
          coordinator.process.child.kill("SIGCONT");
          const proof = `was in state ${state}`;
          if (cluster.coordinators.length === 1) return proof;
          const code = await exitOf(coordinator);
          if (code !== FENCED_EXIT) throw new Error(`${coordinator.name} ended with ${code}`);
          return `${proof}, ended with ${code}`;
        },
      };
    },
  },
  "Redis killed": {
    breaksGang: false,
    strike: async ({ cluster, prng, signal }) => {
      await cluster.redis.server.crash();
      const ms = between(prng, AWAY_MS);
      return {
        what: `for ${ms} ms`,
        mend: async () => {
          await delay(ms, undefined, { signal });
          await cluster.restartRedis();
          return "ended by SIGKILL";
        },
      };
    },
  },
  "Redis cut off": {
    breaksGang: false,
    strike: async ({ cluster, prng, signal }) =>
      hold("Redis", [cluster.redis.proxy], { prng, signal }),
  },
} as const satisfies Record<string, Fault>;

export type FaultKind = keyof typeof FAULTS;
export const FAULT_KINDS = Object.keys(FAULTS) as FaultKind[];

/** Exit status of a coordinator that finds itself replaced. */
const FENCED_EXIT = ERROR_SPECS.LEADERSHIP_LOST.exit;

/** Exit status of a worker that SIGTERM has drained. */
const PREEMPTED_EXIT = ERROR_SPECS.PREEMPTED.exit;

async function replaced(cluster: ChaosCluster, proof: string): Promise<string> {
  const { name } = await cluster.startWorker();
  return `${proof}, ${name} came`;
}

/** @throws when it does not end */
async function exitOf(
  { name, process }: Worker | Coordinator,
  ended = process.exited(),
): Promise<number | null> {
  const late = delay(EXIT_TIMEOUT_MS, undefined, { ref: false });
  const exit = await Promise.race([ended, late]);
  if (!exit) throw new Error(`${name} does not end`);
  return exit.code;
}

/** Sends SIGSTOP and sees that it works. @returns the state that /proc tells */
async function freeze({ name, process }: Worker | Coordinator): Promise<string> {
  process.child.kill("SIGSTOP");
  for (let looks = 0; looks < 100; looks++) {
    const stat = readFileSync(`/proc/${process.pid}/stat`, "latin1");
    const state = stat.slice(stat.lastIndexOf(")") + 2)[0] ?? "?";
    if (state === "T") return state;
    await delay(10);
  }
  throw new Error(`${name} does not stop`);
}

function hold(
  who: string,
  proxies: readonly Worker["peers"][],
  { prng, signal }: Pick<Victims, "prng" | "signal">,
): Strike {
  const heldBytes = (): number => proxies.reduce((sum, proxy) => sum + proxy.heldBytes, 0);
  const before = heldBytes();
  for (const proxy of proxies) proxy.hold();
  const ms = between(prng, SILENT_MS);
  return {
    what: `${who} for ${ms} ms`,
    mend: async () => {
      await delay(ms, undefined, { signal });
      for (const proxy of proxies) proxy.heal();
      const bytes = heldBytes() - before;
      if (bytes === 0) throw new Unfelt(`nothing was said to or by ${who} in ${ms} ms`);
      return `${bytes} bytes held`;
    },
  };
}

function between(prng: Prng, { min, max }: { readonly min: number; readonly max: number }): number {
  return prng.int(min, max);
}
