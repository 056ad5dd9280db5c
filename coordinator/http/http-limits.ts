/** What the HTTP server bears: bounds that a person with many tabs keeps, and a flood does not. */

import type { Quota } from "../../proto/peer-quota.ts";
import type { Rate } from "../../proto/token-bucket.ts";

export interface HttpLimits {
  /** Open event streams. */
  readonly streams: Quota;
  /** How long a reader of a stream may leave unread what is there for it. */
  readonly streamStallMs: number;
  /** Wrong operator tokens of one address. */
  readonly wrongTokens: Rate;
  /** Operators who are signed in at the same time; the oldest is signed out for another one. */
  readonly sessions: number;
}

export const HTTP_LIMITS: HttpLimits = {
  streams: { perPeer: 64, total: 256 },
  streamStallMs: 30_000,
  wrongTokens: { burst: 5, perSecond: 0.2 },
  sessions: 256,
};

/** Of a request: a token or nothing. */
export const BODY_BYTES_MAX = 4_096;
