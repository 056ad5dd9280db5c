/**
 * Metrics of Redis and of the queue in it. While Redis is away there is nothing to say of what it
 * holds, and the other metrics must still be served.
 */

import { Counter, Gauge, type Registry } from "prom-client";
import type { RedisFacts } from "../store/redis-facts.ts";
import type { Store } from "../store/store.ts";

interface StoreSource {
  readonly store: Pick<Store, "queueDepth" | "redisFacts" | "redisReconnects">;
}

const REDIS_GAUGES: Readonly<Record<string, [help: string, keyof RedisFacts]>> = {
  simclr_redis_memory_used_bytes: ["Memory that Redis has taken for its data.", "usedBytes"],
  simclr_redis_memory_max_bytes: ["How much it may take; 0 where there is no bound.", "maxBytes"],
  simclr_redis_noeviction: ["1 while Redis drops no key, however full it is.", "neverEvicts"],
};

export function addStoreMetrics(registry: Registry, { store }: StoreSource): void {
  new Gauge({
    name: "simclr_queue_jobs",
    help: "Jobs of stages in BullMQ by state; a stage that is handed over is `delayed`.",
    labelNames: ["state"],
    registers: [registry],
    async collect() {
      this.reset();
      const depth = await store.queueDepth().catch(() => ({}));
      for (const [state, jobs] of Object.entries(depth)) this.set({ state }, jobs);
    },
  });
  new Gauge({
    name: "simclr_redis_up",
    help: "1 while Redis answers.",
    registers: [registry],
    async collect() {
      this.set(Number((await store.redisFacts()) !== undefined));
    },
  });
  new Counter({
    name: "simclr_redis_reconnects_total",
    help: "How often the connection to Redis had to be opened again.",
    registers: [registry],
    collect() {
      this.reset();
      this.inc(store.redisReconnects);
    },
  });
  new Counter({
    name: "simclr_redis_evicted_keys_total",
    help: "Keys that Redis has dropped for want of memory since it was started.",
    registers: [registry],
    async collect() {
      const facts = await store.redisFacts();
      this.reset();
      if (facts) this.inc(facts.evictedKeys);
      else this.remove();
    },
  });
  for (const [name, [help, fact]] of Object.entries(REDIS_GAUGES)) {
    new Gauge({
      name,
      help,
      registers: [registry],
      async collect() {
        const facts = await store.redisFacts();
        if (facts) this.set(Number(facts[fact]));
        else this.remove();
      },
    });
  }
}
