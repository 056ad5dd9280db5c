/** Connections to Redis: how they are opened, and what is checked before they are used. */

import { Redis } from "ioredis";
import { FleetError } from "../../proto/errors.ts";
import type { Log } from "../../proto/log.ts";

/** A Redis that has not answered by then counts as unreachable. */
const CONNECT_TIMEOUT_MS = 4_000;
/** A command that is not answered by then has failed. */
const COMMAND_TIMEOUT_MS = 5_000;
/**
 * A connection over which no answer comes for so long is opened anew: what is lost between two
 * machines closes no socket. The patient one waits in commands of up to 10 s.
 */
const SILENCE_MS = 4_000;
const PATIENT_SILENCE_MS = 15_000;
/** ioredis 6 and BullMQ 6 need no less. */
const VERSION_MIN = [6, 2] as const;

export interface RedisConnections {
  /** For everything that somebody waits for: fails fast while Redis is away. */
  readonly commands: Redis;
  /** For the queue's processors: waits while Redis is away, for as long as it takes. */
  readonly patient: Redis;
  /** The address without its secrets, for messages. */
  readonly address: string;
  /** How often `commands` had to be opened again. */
  readonly reconnects: () => number;
  close(): void;
}

/**
 * Opens both connections and checks the server behind them.
 *
 * @throws {FleetError} REDIS_UNREACHABLE within 5 s, also for a server that is too old
 */
export async function connectRedis(url: string, log: Log): Promise<RedisConnections> {
  const address = redactUrl(url);
  const commands = new Redis(url, {
    ...baseOptions,
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    commandTimeout: COMMAND_TIMEOUT_MS,
    socketTimeout: SILENCE_MS,
  });
  // Without a listener ioredis prints every failed attempt itself.
  let lastProblem = "";
  commands.on("error", (error: Error) => {
    lastProblem = describeProblem(error);
  });

  try {
    await withDeadline(commands.connect(), CONNECT_TIMEOUT_MS);
    await checkServer(commands, log);
  } catch (cause) {
    commands.disconnect();
    const problem = lastProblem || describeProblem(cause);
    throw new FleetError(
      "REDIS_UNREACHABLE",
      `Redis at ${address} cannot be used: ${problem}`,
      { address },
      cause,
    );
  }

  const patience = { maxRetriesPerRequest: null, socketTimeout: PATIENT_SILENCE_MS };
  const patient = new Redis(url, { ...baseOptions, ...patience });
  for (const connection of [commands, patient]) watchConnection(connection, address, log);
  let reconnects = 0;
  commands.on("ready", () => {
    reconnects += 1;
  });
  return {
    commands,
    patient,
    address,
    reconnects: () => reconnects,
    close: () => {
      commands.disconnect();
      patient.disconnect();
    },
  };
}

const baseOptions = {
  lazyConnect: true,
  connectTimeout: CONNECT_TIMEOUT_MS,
  retryStrategy: (attempt: number) => Math.min(50 * 2 ** attempt, 1_000),
};

/**
 * Does what Redis may fail in.
 *
 * @param address of it, without its secrets
 * @throws {FleetError} REDIS_UNREACHABLE; what `work` throws of ours
 */
export async function reachRedis<Result>(
  address: string,
  work: () => Promise<Result>,
): Promise<Result> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof FleetError) throw cause;
    const message = `Redis at ${address} does not answer: ${FleetError.from(cause).message}`;
    throw new FleetError("REDIS_UNREACHABLE", message, { address }, cause);
  }
}

/** Which start of the server this is. */
export async function runIdOf(redis: Redis): Promise<string | undefined> {
  return /^run_id:(\S+)/m.exec(await redis.info("server"))?.[1];
}

/** HOST:PORT/DB of a Redis URL, without user and password. */
function redactUrl(url: string): string {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (!parsed) return url.includes("@") ? "the given address" : url;
  return `${parsed.host || "127.0.0.1"}${parsed.pathname === "/" ? "" : parsed.pathname}`;
}

async function checkServer(redis: Redis, log: Log): Promise<void> {
  const info = await redis.info("server");
  const version = /^redis_version:(\S+)/m.exec(info)?.[1] ?? "0";
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const isOld = major < VERSION_MIN[0] || (major === VERSION_MIN[0] && minor < VERSION_MIN[1]);
  if (isOld)
    throw new Error(`it is version ${version}, at least ${VERSION_MIN.join(".")} is needed`);

  const memory = await redis.info("memory");
  const policy = /^maxmemory_policy:(\S+)/m.exec(memory)?.[1];
  if (policy !== undefined && policy !== "noeviction") {
    log.warn({ event: "redis may evict experiments", policy, needed: "noeviction" });
  }
}

/** Says once when a connection is lost and once when it is back. */
function watchConnection(connection: Redis, address: string, log: Log): void {
  let isDown = false;
  connection.on("error", (error: Error) => {
    if (isDown) return;
    isDown = true;
    log.warn({ event: "redis lost", address, because: describeProblem(error) });
  });
  connection.on("ready", () => {
    if (isDown) log.info({ event: "redis back", address });
    isDown = false;
  });
}

function describeProblem(problem: unknown): string {
  if (!(problem instanceof Error)) return String(problem);
  const causes = problem instanceof AggregateError ? problem.errors : [problem];
  return causes.map((cause) => (cause as Error).message || String(cause)).join(", ");
}

async function withDeadline<Result>(work: Promise<Result>, deadlineMs: number): Promise<Result> {
  let timer: NodeJS.Timeout | undefined;
  const deadline = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer in ${deadlineMs} ms`)), deadlineMs);
  });
  try {
    return await Promise.race([work, deadline]);
  } finally {
    clearTimeout(timer);
  }
}
