/**
 * A cluster that can be harmed: Redis, coordinators and workers are real processes, and whatever
 * one of them says to another goes through a proxy.
 */

import { createWriteStream } from "node:fs";
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { ERROR_SPECS } from "../../proto/errors.ts";
import { type FaultProxy, startFaultProxy } from "../support/fault-proxy.ts";
import {
  COORDINATOR_MAIN,
  type Exit,
  freePort,
  startNode,
  startRedis,
  type TestProcess,
  type TestRedis,
  WORKER_MAIN,
} from "../support/processes.ts";

/** Exit statuses with which a coordinator leaves the field to others. */
const COORDINATOR_RETIRES: readonly number[] = [
  ERROR_SPECS.LEADERSHIP_LOST.exit,
  ERROR_SPECS.REDIS_UNREACHABLE.exit,
];
/** As whoever keeps it running would wait. */
const RESTART_PAUSE_MS = 500;

export interface ClusterSize {
  readonly coordinators: number;
  readonly workers: number;
  /** What `worker start --engine` takes. */
  readonly engine: string;
}

/** A process that is told beforehand when it is to end. */
interface Guarded {
  readonly name: string;
  readonly process: TestProcess;
  isDoomed: boolean;
}

export interface Coordinator extends Guarded {
  /** HOST:PORT of its gRPC, for operators; workers come through proxies. */
  readonly address: string;
}

export interface Worker extends Guarded {
  /** Before its port for peers. */
  readonly peers: FaultProxy;
  /** Before each coordinator, for this worker alone. */
  readonly coordinators: readonly FaultProxy[];
}

export class ChaosCluster {
  readonly dir: string;
  readonly #size: ClusterSize;
  readonly #ports: number[] = [];
  readonly #coordinators: Coordinator[] = [];
  readonly #workers: Worker[] = [];
  readonly #proxies: FaultProxy[] = [];
  readonly #started: Guarded[] = [];
  readonly #problems: string[] = [];
  #redis: TestRedis | undefined;
  #redisProxy: FaultProxy | undefined;
  #workersStarted = 0;
  #closing: Promise<void> | undefined;

  /** @param dir exists; holds everything that the cluster writes */
  constructor(dir: string, size: ClusterSize) {
    this.dir = dir;
    this.#size = size;
  }

  get workDir(): string {
    return path.join(this.dir, "work");
  }

  /** Everything that was ever started. */
  get pids(): readonly number[] {
    return this.#started.map(({ process }) => process.pid);
  }

  /** What went wrong without being asked to. */
  get problems(): readonly string[] {
    return this.#problems;
  }

  get coordinators(): readonly Coordinator[] {
    return this.#coordinators;
  }

  /** The workers that are to be there. */
  get workers(): readonly Worker[] {
    return this.#workers;
  }

  get redis(): { readonly server: TestRedis; readonly proxy: FaultProxy } {
    if (!this.#redis || !this.#redisProxy) throw new Error("the cluster was not started");
    return { server: this.#redis, proxy: this.#redisProxy };
  }

  async start(): Promise<void> {
    await mkdir(path.join(this.dir, "logs"), { recursive: true });
    const redis = await startRedis();
    this.#redis = redis;
    if (this.#closing !== undefined) await redis.close();
    this.#redisProxy = await this.#proxy(`127.0.0.1:${this.#redis.port}`);
    for (let index = 0; index < this.#size.coordinators; index++) {
      this.#ports.push(await freePort());
      await this.startCoordinator(index);
    }
    const workers = Array.from({ length: this.#size.workers }, () => this.startWorker());
    await Promise.all(workers);
  }

  /** Starts a coordinator in the place of one that has ended, at its address. */
  async startCoordinator(index: number): Promise<void> {
    const port = this.#ports[index]!;
    const own = ["--grpc-port", String(port), "--http-port", "0", "--json"];
    const guarded = this.#run(
      `coordinator-${index + 1}`,
      [COORDINATOR_MAIN, "start", ...own],
      { REDIS_URL: `redis://${this.redis.proxy.address}/0` },
      COORDINATOR_RETIRES,
    );
    const coordinator = Object.assign(guarded, { address: `127.0.0.1:${port}` });
    this.#coordinators[index] = coordinator;
    void this.#supervise(coordinator, index);
    await coordinator.process.output(/^\{.*\}$/m);
  }

  /** Starts a worker of a new name and waits until it has joined. */
  async startWorker(): Promise<Worker> {
    this.#workersStarted++;
    const name = `worker-${this.#workersStarted}`;
    const port = await freePort();
    const peers = await this.#proxy(`127.0.0.1:${port}`);
    const coordinators = await Promise.all(
      this.#ports.map((each) => this.#proxy(`127.0.0.1:${each}`)),
    );
    const guarded = this.#run(name, [
      ...[WORKER_MAIN, "start", "--name", name, "--engine", this.#size.engine],
      ...["--coordinator", coordinators.map(({ address }) => address).join(",")],
      ...["--peer-port", String(port), "--advertise", peers.address],
      ...["--work-dir", this.workDir, "--loader-threads", "1", "--log-samples"],
      ...["--connect-timeout", "120", "--reconnect-timeout", "600"],
    ]);
    const worker = Object.assign(guarded, { peers, coordinators });
    this.#workers.push(worker);
    await worker.process.logged(/joined the fleet/);
    return worker;
  }

  /** Ends a process that is to end, and waits for that. */
  async end(guarded: Guarded, signal: NodeJS.Signals): Promise<Exit> {
    this.doom(guarded);
    return await guarded.process.end(signal);
  }

  /** From now on a process may end; a worker is no longer among those that are to be there. */
  doom(guarded: Guarded): void {
    guarded.isDoomed = true;
    const place = this.#workers.indexOf(guarded as Worker);
    if (place >= 0) this.#workers.splice(place, 1);
  }

  /** Brings Redis back after a crash. */
  async restartRedis(): Promise<void> {
    this.assertOpen();
    await this.redis.server.restart();
    if (this.#closing !== undefined) await this.redis.server.crash();
  }

  /** Throws once the cluster is being closed: who waits for it then waits in vain. */
  assertOpen(): void {
    if (this.#closing !== undefined) throw new Error("the cluster was closed");
  }

  /** Ends everything, whatever state it is in. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    for (const each of this.#started) each.isDoomed = true;
    await Promise.all(this.#started.map(({ process }) => process.end("SIGKILL")));
    await this.#redis?.close();
    await Promise.all(this.#proxies.map((proxy) => proxy.close()));
  }

  /** Starts a coordinator again that found itself replaced, or had no Redis for too long. */
  async #supervise({ process }: Coordinator, index: number): Promise<void> {
    const { code } = await process.exited();
    if (code === null || !COORDINATOR_RETIRES.includes(code)) return;
    await delay(RESTART_PAUSE_MS);
    if (this.#closing !== undefined) return;
    // One that does not come up is supervised, too.
    await this.startCoordinator(index).catch(() => {});
  }

  async #proxy(target: string): Promise<FaultProxy> {
    this.assertOpen();
    const proxy = await startFaultProxy(target);
    this.#proxies.push(proxy);
    return proxy;
  }

  /** @param mayEnd exit statuses with which it may end by itself */
  #run(
    name: string,
    args: readonly string[],
    env: Readonly<Record<string, string>> = {},
    mayEnd: readonly number[] = [],
  ): Guarded {
    this.assertOpen();
    const process = startNode(args, { env });
    const log = createWriteStream(path.join(this.dir, "logs", `${name}.log`), { flags: "a" });
    process.child.stderr?.pipe(log);
    const guarded: Guarded = { name, process, isDoomed: false };
    this.#started.push(guarded);
    const note = ({ code, signal }: Exit): void => {
      if (guarded.isDoomed || (code !== null && mayEnd.includes(code))) return;
      this.#problems.push(`${name} ended with ${signal ?? code}`);
    };
    process.exited().then(note, (error: Error) => this.#problems.push(error.message));
    return guarded;
  }
}
