/** What Redis says of itself, for monitoring. */

import type { Redis } from "ioredis";

/** However many ask, Redis is asked no more often. */
const KEPT_MS = 2_000;

export interface RedisFacts {
  readonly usedBytes: number;
  /** 0 where there is no bound. */
  readonly maxBytes: number;
  /** Since Redis was started. */
  readonly evictedKeys: number;
  /** Whether it keeps every key, however full it is. */
  readonly neverEvicts: boolean;
}

/** Gives the way to ask: undefined while Redis does not answer. */
export function redisFactsOf(redis: Redis): () => Promise<RedisFacts | undefined> {
  let kept: Promise<RedisFacts | undefined> | undefined;
  let untilMs = 0;
  return () => {
    if (kept === undefined || performance.now() > untilMs) {
      untilMs = performance.now() + KEPT_MS;
      kept = ask(redis);
    }
    return kept;
  };
}

async function ask(redis: Redis): Promise<RedisFacts | undefined> {
  try {
    return parseInfo(`${await redis.info("memory")}${await redis.info("stats")}`);
  } catch {
    // Away, or in the middle of a restart: the connection itself says so in the log.
    return undefined;
  }
}

function parseInfo(info: string): RedisFacts {
  const fields = new Map(
    info.split(/\r?\n/).flatMap((line): [string, string][] => {
      const [name, value] = line.split(":", 2);
      return name !== undefined && value !== undefined ? [[name, value]] : [];
    }),
  );
  const figure = (name: string): number => Number(fields.get(name) ?? 0);
  return {
    usedBytes: figure("used_memory"),
    maxBytes: figure("maxmemory"),
    evictedKeys: figure("evicted_keys"),
    // Without a bound nothing is evicted, whatever the policy.
    neverEvicts: fields.get("maxmemory_policy") === "noeviction" || figure("maxmemory") === 0,
  };
}
