/** Puts a coordinator together: Redis, store, scheduler, gRPC, HTTP; and takes it apart again. */

import { hostname } from "node:os";
import path from "node:path";
import { Connections } from "../proto/grpc-listener.ts";
import { LEASE_MS } from "../proto/limits.ts";
import type { Log } from "../proto/log.ts";
import type { LogTap } from "../proto/log-tap.ts";
import { Refusals } from "../proto/refusals.ts";
import { hostPort, type Transport } from "../proto/transport.ts";
import { CONTROL_LIMITS, type ControlLimits } from "./control/control-limits.ts";
import { openControlServer } from "./control/control-server.ts";
import { fleetService } from "./control/fleet-service.ts";
import { leaderOnly } from "./control/leader-only.ts";
import { operatorGate } from "./control/operator-gate.ts";
import { operatorService } from "./control/operator-service.ts";
import { type ControlRefusals, REFUSAL_REASONS } from "./control/refusal-reasons.ts";
import { countFailures } from "./control/reported-failures.ts";
import type { HttpLimits } from "./http/http-limits.ts";
import { openHttpServer } from "./http/http-server.ts";
import { createMetrics } from "./http/metrics.ts";
import { LaunchHints } from "./launcher/launch-hints.ts";
import type { Launcher, LauncherOptions } from "./launcher/launcher.ts";
import { type Clock, Scheduler } from "./scheduling/scheduler.ts";
import { startRedisServer } from "./store/redis-server.ts";
import { seatOf } from "./store/seat.ts";
import { openStore, type Store } from "./store/store.ts";
import { type Role, Term } from "./term.ts";

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
  /** Secret of those who may change something over HTTP; nobody may when it is absent or empty. */
  readonly operatorToken?: string;
  /** Of the gRPC server; HTTP is plain text. */
  readonly transport: Transport;
  readonly log: Log;
  /** Of that log: its lines about experiments are kept with those of the workers. */
  readonly logTap?: LogTap;
  readonly leaseMs?: number;
  /** So long a gang may take to finish its step together before it has to give the step up. */
  readonly boundaryTimeoutMs?: number;
  /** In place of those of {@link CONTROL_LIMITS}. */
  readonly limits?: Partial<ControlLimits>;
  /** In place of those of {@link HTTP_LIMITS}. */
  readonly httpLimits?: Partial<HttpLimits>;
  /** Has a Kubernetes cluster run the workers; without it they are started by others. */
  readonly launcher?: LauncherOptions;
  /** How long a leader may be silent before a standby takes over. */
  readonly leaderTtlMs?: number;
}

export interface Coordinator {
  readonly grpcPort: number;
  readonly httpPort: number;
  /** Of Redis, without its secrets. */
  readonly redisAddress: string;
  /** Leads already, or waits for another one's end. */
  readonly role: Role;
  /** Rejects once it can be of no more use: LEADERSHIP_LOST, or REDIS_UNREACHABLE. */
  readonly ended: Promise<never>;
  /**
   * Ends everything that was started, and lets a standby take over. With `dismiss` the gangs are
   * stopped and the workers sent away first; without it they go on and wait for the next
   * coordinator.
   */
  close(options: { readonly dismiss: boolean }): Promise<void>;
  /** Ends the own redis-server without waiting, for a process that is about to die. */
  kill(): void;
}

/**
 * Resolves once it leads, or stands by for the coordinator that does. Its ports are open by then.
 *
 * @throws {FleetError} REDIS_UNREACHABLE, PORT_IN_USE, STATE_CONFLICT, STORAGE_FAILED, USAGE
 */
export async function startCoordinator(options: CoordinatorOptions): Promise<Coordinator> {
  const opened: (() => Promise<void>)[] = [];
  const closeAll = async (): Promise<void> => {
    for (const close of opened.splice(0).toReversed()) await close();
  };
  try {
    return await open(options, opened, closeAll);
  } catch (error) {
    await closeAll();
    throw error;
  }
}

async function open(
  options: CoordinatorOptions,
  opened: (() => Promise<void>)[],
  closeAll: () => Promise<void>,
): Promise<Coordinator> {
  const { log, host, leaseMs = LEASE_MS, redisPrefix: prefix, leaderTtlMs } = options;
  const redis =
    options.redisUrl === undefined
      ? await startRedisServer(path.join(options.stateDir, "redis"), log)
      : undefined;
  if (redis) opened.push(() => redis.stop());

  const redisUrl = redis?.url ?? options.redisUrl ?? "";
  const store = await openStore({ redisUrl, log, prefix, leaderTtlMs });
  opened.push(() => store.close());
  options.logTap?.listen(({ experimentId, record }) => store.logs.append(experimentId, [record]));

  const { leadership } = store;
  const hints = new LaunchHints();
  const scheduler = new Scheduler({
    store,
    hints,
    log,
    clock,
    leaseMs,
    ...(options.boundaryTimeoutMs ? { boundaryTimeoutMs: options.boundaryTimeoutMs } : {}),
    mayAct: () => leadership.mayAct(),
  });
  const term = new Term({ store, scheduler, log, leaseMs });
  const isLeading = (): boolean => term.role.status === "leading";
  const fleet = { scheduler, leadership, hints, log, instance: prefix, isLeading };
  const launcher = options.launcher && (await openLauncher(options.launcher, fleet));
  if (launcher) opened.push(() => launcher.close());
  const ports = await openPorts({ options, store, scheduler, term, launcher }, opened);

  const socket = hostPort(host, ports.grpcPort);
  opened.push(() => term.close());
  await term.begin({
    address: isAnyHost(host) ? hostPort(hostname(), ports.grpcPort) : socket,
    seat: await seatOf(socket),
    isAlone: redis !== undefined,
  });
  return {
    ...ports,
    redisAddress: store.address,
    get role() {
      return term.role;
    },
    ended: term.ended,
    close: async ({ dismiss }) => {
      if (dismiss) await dismissAll(scheduler);
      await closeAll();
    },
    kill: () => redis?.kill(),
  };
}

/** Its package is a large one, which other fleets do without. */
async function openLauncher(
  ...[options, fleet]: ConstructorParameters<typeof Launcher>
): Promise<Launcher> {
  const { Launcher } = await import("./launcher/launcher.ts");
  return new Launcher(options, fleet);
}

interface Parts {
  readonly options: CoordinatorOptions;
  readonly store: Store;
  readonly scheduler: Scheduler;
  readonly term: Term;
  readonly launcher: Launcher | undefined;
}

/** Listens, also while another coordinator leads: calls are then refused with its address. */
async function openPorts(
  { options, store, scheduler, term, launcher }: Parts,
  opened: (() => Promise<void>)[],
): Promise<Pick<Coordinator, "grpcPort" | "httpPort">> {
  const { host, log, joinToken, transport, leaseMs = LEASE_MS } = options;
  const { leadership, logs } = store;
  const check = (): void => term.check();
  const refusals: ControlRefusals = new Refusals({
    reasons: REFUSAL_REASONS,
    log,
    event: "message refused",
  });
  const limits = { ...CONTROL_LIMITS, ...options.limits };
  const connections = new Connections(limits.connections, (peer) =>
    refusals.add("connection", { peer }),
  );
  const guard = { limits, refusals, connections };
  const failures = countFailures();
  const workplace = { scheduler, clock, joinToken, leaseMs, leadership, logs, failures };
  const fleet = fleetService({ ...guard, ...workplace });
  const isGathering = (): boolean => term.isGathering;
  const operator = operatorService({
    ...guard,
    ...{ scheduler, store, logs, clock, log, isGathering },
  });
  const control = await openControlServer({
    host,
    port: options.grpcPort,
    transport,
    connections,
    gate: operatorGate({ ...guard, joinToken }),
    fleet: leaderOnly(fleet, check),
    operator: leaderOnly(operator, check),
  });
  opened.push(() => control.close());

  const problems = async (): Promise<readonly string[]> => [
    ...term.problems(),
    ...((await store.isReachable()) ? [] : ["Redis does not answer"]),
  ];
  const stateDir = options.redisUrl === undefined ? options.stateDir : undefined;
  const registry = createMetrics({
    scheduler,
    store,
    clock,
    refusals,
    failures,
    stateDir,
    launcher,
  });
  const http = await openHttpServer({
    ...{ host, port: options.httpPort, registry, problems },
    ...{ scheduler, store, clock, log, refusals },
    operatorToken: options.operatorToken ?? "",
    checkLeading: check,
    ...(options.httpLimits ? { limits: options.httpLimits } : {}),
  });
  opened.push(() => http.close());
  return { grpcPort: control.port, httpPort: http.port };
}

function isAnyHost(host: string): boolean {
  return host === "0.0.0.0" || host === "::";
}

const clock: Clock = { monotonicMs: () => performance.now(), unixMs: () => Date.now() };

async function dismissAll(scheduler: Scheduler): Promise<void> {
  scheduler.close({ dismiss: true });
  const deadline = clock.monotonicMs() + DISMISS_TIMEOUT_MS;
  while (scheduler.sessionCount() > 0 && clock.monotonicMs() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, DISMISS_POLL_MS));
  }
}
