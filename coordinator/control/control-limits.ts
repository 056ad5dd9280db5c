/**
 * What the gRPC server bears. Each bound lets a large fleet pass, restarted all at once behind one
 * address, and keeps what exceeds it from the gangs that are at work.
 */

import type { ConnectionLimits } from "../../proto/grpc-listener.ts";
import type { Quota } from "../../proto/peer-quota.ts";
import type { Rate } from "../../proto/token-bucket.ts";

/**
 * Of one message. A result has at most 1,000,000 characters (worker-message.ts), a recipe
 * RECIPE_LENGTH_MAX.
 */
export const REQUEST_BYTES_MAX = 2 * 1024 * 1024;

export const RECIPE_LENGTH_MAX = 256 * 1024;

export interface ControlLimits {
  readonly connections: ConnectionLimits;
  /** Sessions that have not registered yet. */
  readonly unregistered: Quota;
  /** `register` messages of one address. */
  readonly registers: Rate;
  /** Workers that are not lost. */
  readonly members: number;
  /** Messages of one kind in one session; what comes faster is dropped. */
  readonly messages: Rate;
  /** Messages that a worker has not read; with more it is sent away. */
  readonly unread: number;
  /** Calls of WatchExperiment. */
  readonly watchers: Quota;
  /** How long a watcher may leave unread what is there for it. */
  readonly watchStallMs: number;
}

export const CONTROL_LIMITS: ControlLimits = {
  connections: {
    all: { perPeer: 2_048, total: 8_192 },
    strangers: { perPeer: 256, total: 1_024 },
    strangerMs: 10_000,
  },
  unregistered: { perPeer: 256, total: 1_024 },
  registers: { burst: 512, perSecond: 16 },
  members: 4_096,
  // A worker sends a heartbeat a second and two reports of progress.
  messages: { burst: 200, perSecond: 20 },
  unread: 64,
  watchers: { perPeer: 64, total: 512 },
  watchStallMs: 30_000,
};
