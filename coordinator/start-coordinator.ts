/** Puts a coordinator together: Redis, store, scheduler, gRPC, HTTP; and takes it apart again. */

import path from "node:path";
import { Connections } from "../proto/grpc-listener.ts";
import { LEASE_MS } from "../proto/limits.ts";
import type { Log } from "../proto/log.ts";
import { Refusals } from "../proto/refusals.ts";
import type { Transport } from "../proto/transport.ts";
import { CONTROL_LIMITS, type ControlLimits } from "./control/control-limits.ts";
import { openControlServer } from "./control/control-server.ts";
import { fleetService } from "./control/fleet-service.ts";
import { operatorGate } from "./control/operator-gate.ts";
import { operatorService } from "./control/operator-service.ts";
import { type ControlRefusals, REFUSAL_REASONS } from "./control/refusal-reasons.ts";
import { openHttpServer } from "./http/http-server.ts";
import { createMetrics } from "./http/metrics.ts";
import { type Clock, Scheduler } from "./scheduler.ts";
import { startRedisServer } from "./store/redis-server.ts";
import { openStore } from "./store/store.ts";

/** Workers that were sent away have this long to stop at a step boundary and to say goodbye. */
const DISMISS_TIMEOUT_MS = 5_000;
const DISMISS_POLL_MS = 50;

export interface CoordinatorOptions {
  readonly host: string;
  /** 0 takes any free port. */
  readonly grpcPort: number;
  readonly httpPort: number;
  /** Where the coordinator's own Redis keeps its data. */
  readonly stateDir: string;
  /** An own redis-server is started when it is absent. */
  readonly redisUrl?: string;
  /** Keeps several coordinators apart on one Redis. */
  readonly redisPrefix: string;
  /** Secret of the cluster that workers and commands must know; empty lets anybody in. */
  readonly joinToken: string;
  /** Of the gRPC server; HTTP is plain text. */
  readonly transport: Transport;
  readonly log: Log;
  readonly leaseMs?: number;
  /** So long a gang may take to finish its step together before it has to give the step up. */
  readonly boundaryTimeoutMs?: number;
  /** In place of those of {@link CONTROL_LIMITS}. */
  readonly limits?: Partial<ControlLimits>;
}

export interface Coordinator {
  readonly grpcPort: number;
  readonly httpPort: number;
  /** Of Redis, without its secrets. */
  readonly redisAddress: string;
  /**
   * Ends everything that was started. With `dismiss` the gangs are stopped and the workers sent
   * away first; without it they go on and wait for the next coordinator.
   */
  close(options: { readonly dismiss: boolean }): Promise<void>;
  /** Ends the own redis-server without waiting, for a process that is about to die. */
  kill(): void;
}

/** @throws {FleetError} REDIS_UNREACHABLE, PORT_IN_USE, STATE_CONFLICT, STORAGE_FAILED, USAGE */
export async function startCoordinator(options: CoordinatorOptions): Promise<Coordinator> {
  const { log, host, leaseMs = LEASE_MS } = options;
  const opened: (() => Promise<void>)[] = [];
  const closeAll = async (): Promise<void> => {
    for (const close of opened.toReversed()) await close();
  };

  try {
    const redis =
      options.redisUrl === undefined
        ? await startRedisServer(path.join(options.stateDir, "redis"), log)
        : undefined;
    if (redis) opened.push(() => redis.stop());

    const redisUrl = redis?.url ?? options.redisUrl ?? "";
    const store = await openStore({ redisUrl, log, prefix: options.redisPrefix });
    opened.push(() => store.close());

    const scheduler = new Scheduler({
      store,
      log,
      clock,
      leaseMs,
      ...(options.boundaryTimeoutMs ? { boundaryTimeoutMs: options.boundaryTimeoutMs } : {}),
    });
    const stored = await store.load();
    scheduler.restore(stored, 0);
    const refusals: ControlRefusals = new Refusals({
      reasons: REFUSAL_REASONS,
      log,
      event: "message refused",
    });
    const { joinToken, transport } = options;
    const limits = { ...CONTROL_LIMITS, ...options.limits };
    const connections = new Connections(limits.connections, (peer) =>
      refusals.add("connection", { peer }),
    );
    const guard = { limits, refusals, connections };
    const control = await openControlServer({
      host,
      port: options.grpcPort,
      transport,
      connections,
      gate: operatorGate({ ...guard, joinToken }),
      fleet: fleetService({ ...guard, scheduler, clock, joinToken, leaseMs }),
      operator: operatorService({ ...guard, scheduler, store, clock, log }),
    });
    opened.push(() => control.close());

    const http = await openHttpServer({
      host,
      port: options.httpPort,
      registry: createMetrics({ scheduler, store, clock, refusals }),
      problems: async () => ((await store.isReachable()) ? [] : ["Redis does not answer"]),
    });
    opened.push(() => http.close());

    scheduler.start();
    await store.start(
      (id, stage) => scheduler.judge(id, stage),
      stored.map(({ experiment }) => experiment),
    );
    opened.push(() => endScheduling(scheduler, false));
    return {
      grpcPort: control.port,
      httpPort: http.port,
      redisAddress: store.address,
      close: async ({ dismiss }) => {
        if (dismiss) await endScheduling(scheduler, true);
        await closeAll();
      },
      kill: () => redis?.kill(),
    };
  } catch (error) {
    await closeAll();
    throw error;
  }
}

const clock: Clock = { monotonicMs: () => performance.now(), unixMs: () => Date.now() };

async function endScheduling(scheduler: Scheduler, dismiss: boolean): Promise<void> {
  scheduler.close({ dismiss });
  if (!dismiss) return;
  const deadline = clock.monotonicMs() + DISMISS_TIMEOUT_MS;
  while (scheduler.sessionCount() > 0 && clock.monotonicMs() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, DISMISS_POLL_MS));
  }
}
