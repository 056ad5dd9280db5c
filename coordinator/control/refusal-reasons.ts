/** Why the coordinator did not take what it was sent: the labels of its metric. */

import type { ErrorCode } from "../../proto/errors.ts";
import type { Refusals } from "../../proto/refusals.ts";

export const REFUSAL_REASONS = [
  /** A connection too many, or one on which nothing of use was said. */
  "connection",
  /** No or another join token, of a worker or of a command. */
  "join-token",
  /** Another operator token than the coordinator's, over HTTP. */
  "operator-token",
  /** A request over HTTP that another site's page has made a browser send. */
  "cross-site",
  "version",
  /** Beyond a limit on sessions, registrations, members or watchers. */
  "overloaded",
  /** A message of a session that must begin with `register`. */
  "before-register",
  "registered-twice",
  /** Empty, or of a later version. */
  "unknown",
  /** A field that cannot be, or is too long. */
  "malformed",
  /** More messages than a session may send. */
  "too-many",
  /** About a stage, from a worker that has none: also its second `stopped`. */
  "unassigned",
  /** About another generation than the worker's own. */
  "foreign-generation",
  /** Lines of a log about an experiment that is not there. */
  "unknown-experiment",
  /** A session or a watcher that does not read. */
  "slow-reader",
] as const;

export type RefusalReason = (typeof REFUSAL_REASONS)[number];

export type ControlRefusals = Refusals<RefusalReason>;

/** The reason behind a message or call that was refused with an error of this code. */
export function refusalReason(code: ErrorCode): RefusalReason {
  switch (code) {
    case "JOIN_REFUSED":
      return "join-token";
    case "VERSION_MISMATCH":
      return "version";
    case "OVERLOADED":
      return "overloaded";
    default:
      return "malformed";
  }
}
