/**
 * A whole cluster on this machine: Redis, a coordinator, and workers, each a process of its own.
 */

import path from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { openLog } from "../../proto/log.ts";
import { makeFolder } from "../../proto/make-folder.ts";
import { type RedisServer, startRedisServer } from "../store/redis-server.ts";
import { ChildProcesses } from "./child-processes.ts";

export interface LocalClusterOptions {
  /** Keeps state, logs and results; exists. */
  readonly folder: string;
  readonly workers: number;
  /** What `worker start --engine` takes. */
  readonly engine: string;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** The folders of a cluster's work, under its own. */
export const CLUSTER_FOLDERS = { state: "state", logs: "logs", runs: "runs" } as const;

const addressesSchema = z.object({ grpc: z.string(), http: z.string() });

/** Of the coordinator. */
type Addresses = Readonly<z.infer<typeof addressesSchema>>;

export class LocalCluster {
  readonly #options: LocalClusterOptions;
  readonly #children: ChildProcesses;
  #redis: RedisServer | undefined;
  #start: Promise<Addresses> | undefined;

  constructor(options: LocalClusterOptions) {
    this.#options = options;
    this.#children = new ChildProcesses(this.#path("logs"), options.env);
  }

  /** Rejects when one of the processes ends by itself; never resolves. */
  get failed(): Promise<never> {
    return this.#children.failed;
  }

  /**
   * Starts everything; the workers may still be loading their engine when it returns.
   *
   * @returns HOST:PORT of the coordinator's gRPC, and the URL of its status page
   * @throws {FleetError} REDIS_UNREACHABLE, or what the exit status of a child stands for
   */
  async start(): Promise<Addresses> {
    this.#start = this.#launch();
    return await this.#start;
  }

  /** Ends what runs and what is being started. Never rejects. */
  async stop(): Promise<void> {
    await this.#children.stop();
    // A start under way finds that it may start nothing more, and fails: nobody waits for it now.
    await this.#start?.catch(() => {});
    await this.#redis?.stop();
  }

  /** Last resort of a process that is about to die: no waiting. */
  kill(): void {
    this.#children.kill();
    this.#redis?.kill();
  }

  async #launch(): Promise<Addresses> {
    const { workers, engine } = this.#options;
    makeFolder(this.#path("logs"));
    const silent = openLog({ level: "silent", process: "demo" });
    this.#redis = await startRedisServer(path.join(this.#path("state"), "redis"), silent);

    // On this machine's loopback, whatever certificates the environment has.
    const local = ["--host", "127.0.0.1", "--plaintext"];
    const ports = ["--grpc-port", "0", "--http-port", "0"];
    const coordinator = this.#children.start(
      "coordinator",
      [script("../main"), "start", "--json", ...local, ...ports],
      { REDIS_URL: this.#redis.url },
    );
    const addresses = addressesSchema.parse(JSON.parse(await coordinator.firstLine()));
    for (let rank = 0; rank < workers; rank++) {
      const name = `worker ${rank + 1}`;
      const options = ["--coordinator", addresses.grpc, "--engine", engine, "--threads", "1"];
      this.#children.start(name, [
        script("../../worker/main"),
        "start",
        ...local,
        ...options,
        "--work-dir",
        this.#path("runs"),
        "--name",
        name.replace(" ", "-"),
      ]);
    }
    return addresses;
  }

  #path(folder: keyof typeof CLUSTER_FOLDERS): string {
    return path.join(this.#options.folder, CLUSTER_FOLDERS[folder]);
  }
}

/** The file of a command: .ts from source, .js after the build. */
function script(name: string): string {
  const self = fileURLToPath(import.meta.url);
  return path.join(path.dirname(self), `${name}${path.extname(self)}`);
}
