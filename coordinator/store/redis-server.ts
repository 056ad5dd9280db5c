/**
 * The coordinator's own redis-server, for where nobody else runs one.
 *
 * It keeps an append-only file under the state folder, so that experiments survive a restart. It
 * listens on a free loopback port behind a random password, and runs in a process group of its own:
 * Ctrl-C in a terminal reaches the coordinator alone, which closes Redis last.
 *
 * A lock file beside the data says where the server listens: two servers must never write to one
 * folder. After a crash of the coordinator its server still runs; the next start ends it first. A
 * server that ends by itself, killed for memory perhaps, is started again on the same files.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { open, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import path from "node:path";
import { Redis } from "ioredis";
import { z } from "zod";
import { FleetError } from "../../proto/errors.ts";
import type { Log } from "../../proto/log.ts";
import { makeFolder } from "../../proto/make-folder.ts";

/** A large append-only file takes a while to load. */
const START_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 10_000;
/** A server that was killed is started again after this pause. */
const RESPAWN_PAUSE_MS = 1_000;
/** Another process may take the free port before Redis does. */
const PORT_ATTEMPTS = 3;

export interface RedisServer {
  readonly url: string;
  /** Writes everything out and ends the server. */
  stop(): Promise<void>;
  /** Last resort of a process that is about to die: no waiting. */
  kill(): void;
}

const lockSchema = z.object({ coordinatorPid: z.int(), url: z.string() });
type Lock = z.output<typeof lockSchema>;

/**
 * Starts a server on `folder`, which is made when it is not there.
 *
 * @throws {FleetError} REDIS_UNREACHABLE when redis-server is not installed or does not start,
 *   STATE_CONFLICT when another coordinator uses the folder, STORAGE_FAILED
 */
export async function startRedisServer(folder: string, log: Log): Promise<RedisServer> {
  try {
    makeFolder(folder);
  } catch (cause) {
    const reason = FleetError.from(cause).message;
    throw new FleetError("STORAGE_FAILED", `cannot make ${folder}: ${reason}`, {}, cause);
  }
  await takeOver(folder, log);

  for (let attempt = 1; ; attempt++) {
    const port = await freePort();
    const password = randomBytes(16).toString("hex");
    const url = `redis://:${password}@127.0.0.1:${port}/0`;
    const spawnHere = (): ChildProcess => spawnServer(folder, port, password);
    const child = spawnHere();
    try {
      await ready(child, url);
      await writeLock(folder, { coordinatorPid: process.pid, url });
      log.info({ event: "redis started", folder, port, pid: child.pid });
      const processes = supervise(child, spawnHere, log);
      const stop = async (): Promise<void> => {
        await processes.stop();
        await rm(lockPath(folder), { force: true });
      };
      return { url, stop, kill: processes.kill };
    } catch (thrown) {
      child.kill("SIGKILL");
      const error = FleetError.from(thrown);
      if (error.code === "REDIS_UNREACHABLE" || attempt === PORT_ATTEMPTS) throw error;
    }
  }
}

function spawnServer(folder: string, port: number, password: string): ChildProcess {
  const child = spawn("redis-server", ["-"], {
    cwd: folder,
    detached: true,
    stdio: ["pipe", "pipe", "pipe"],
  });
  // Settings go through standard input, where other users do not see the password.
  const settings = [
    `port ${port}`,
    "bind 127.0.0.1",
    `requirepass ${password}`,
    "appendonly yes",
    "appendfsync everysec",
    'save ""',
    "maxmemory-policy noeviction",
    "daemonize no",
  ];
  child.stdin?.on("error", () => {
    // The process is gone; `exit` or `error` says why.
  });
  child.stdin?.end(`${settings.join("\n")}\n`);
  return child;
}

/**
 * Resolves when the server answers; an early exit or a missing binary is an error with its words.
 */
async function ready(child: ChildProcess, url: string): Promise<void> {
  let output = "";
  child.stdout?.on("data", (text: Buffer) => {
    output = `${output}${text}`.slice(-2_000);
  });
  child.stderr?.on("data", (text: Buffer) => {
    output = `${output}${text}`.slice(-2_000);
  });
  const gone = new AbortController();
  const problem = new Promise<never>((_, reject) => {
    child.once("error", (cause: NodeJS.ErrnoException) => reject(spawnProblem(cause)));
    child.once("exit", (code) => {
      const words = output.trim().split("\n").at(-1) ?? "";
      reject(new FleetError("UNEXPECTED", `redis-server ended with ${code}: ${words}`));
    });
  });

  const client = new Redis(url, {
    lazyConnect: true,
    connectTimeout: START_TIMEOUT_MS,
    retryStrategy: () => (gone.signal.aborted ? null : 50),
    maxRetriesPerRequest: null,
  });
  client.on("error", () => {
    // It is still starting; the deadline below decides.
  });
  try {
    await Promise.race([problem, answer(client)]);
  } finally {
    gone.abort();
    client.disconnect();
    child.removeAllListeners("exit");
  }
}

/** ioredis counts as ready only after Redis has loaded its file, so that one PING is enough. */
async function answer(client: Redis): Promise<void> {
  const deadline = setTimeout(() => client.disconnect(), START_TIMEOUT_MS);
  try {
    client.connect().catch(() => {
      // Refused for now: the retry strategy goes on, and PING waits in the queue.
    });
    await client.ping();
  } catch (cause) {
    const message = `redis-server did not answer in ${START_TIMEOUT_MS} ms`;
    throw new FleetError("REDIS_UNREACHABLE", message, {}, cause);
  } finally {
    clearTimeout(deadline);
  }
}

function spawnProblem(cause: NodeJS.ErrnoException): FleetError {
  const message =
    cause.code === "ENOENT"
      ? "redis-server is not installed: install it (Debian and Ubuntu: apt-get install " +
        "redis-server) or, for `coordinator start`, set REDIS_URL"
      : `redis-server cannot be started: ${cause.message}`;
  return new FleetError("REDIS_UNREACHABLE", message, {}, cause);
}

/** Keeps a server running from `first` on, until it is stopped. */
function supervise(
  first: ChildProcess,
  spawnNext: () => ChildProcess,
  log: Log,
): Pick<RedisServer, "stop" | "kill"> {
  let child = first;
  let isStopping = false;
  let respawn: NodeJS.Timeout | undefined;

  const watch = (): void => {
    child.once("exit", (code, signal) => {
      if (isStopping) return;
      log.error({ event: "redis ended by itself", code, signal, restartsInMs: RESPAWN_PAUSE_MS });
      respawn = setTimeout(() => {
        child = spawnNext();
        child.on("error", (error) => log.error({ event: "redis not started", error }));
        child.stdout?.resume();
        child.stderr?.resume();
        watch();
      }, RESPAWN_PAUSE_MS);
    });
  };
  watch();
  return {
    stop: async () => {
      isStopping = true;
      clearTimeout(respawn);
      if (child.exitCode !== null || child.signalCode !== null) return;
      const exited = once(child, "exit");
      const last = setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT_MS);
      child.kill("SIGTERM");
      await exited;
      clearTimeout(last);
    },
    kill: () => {
      isStopping = true;
      child.kill("SIGTERM");
    },
  };
}

/**
 * Makes sure that nobody else works on the folder. Process ids prove nothing (a container hands out
 * the same ones again); a server that takes the lock's password does, and its other clients do.
 */
async function takeOver(folder: string, log: Log): Promise<void> {
  const lock = await readLock(folder);
  if (!lock) return;
  const client = new Redis(lock.url, { lazyConnect: true, retryStrategy: null });
  client.on("error", () => {
    // Nothing of ours listens there.
  });
  try {
    if (!(await connects(client))) return;
    const clients = String(await client.client("LIST"))
      .trim()
      .split("\n");
    if (clients.length > 1) {
      throw new FleetError(
        "STATE_CONFLICT",
        `the state folder ${folder} is used by the coordinator with process id ` +
          `${lock.coordinatorPid}; stop it or give another --state-dir`,
      );
    }
    log.warn({ event: "redis of a crashed coordinator found", folder });
    const ended = once(client, "end");
    // It answers by closing the connection, once everything is written.
    client.shutdown().catch(() => {});
    await ended;
  } finally {
    client.disconnect();
  }
}

async function connects(client: Redis): Promise<boolean> {
  try {
    await client.connect();
    return true;
  } catch {
    return false;
  }
}

async function readLock(folder: string): Promise<Lock | undefined> {
  try {
    return lockSchema.parse(JSON.parse(await readFile(lockPath(folder), "utf8")));
  } catch {
    // No lock, or half of one: its writer died before its server was of use to anyone.
    return undefined;
  }
}

async function writeLock(folder: string, lock: Lock): Promise<void> {
  const file = await open(lockPath(folder), "w", 0o600);
  await file.writeFile(JSON.stringify(lock));
  await file.close();
}

function lockPath(folder: string): string {
  return path.join(folder, "lock.json");
}

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (typeof address !== "object" || address === null) throw new TypeError("no port");
  return address.port;
}
