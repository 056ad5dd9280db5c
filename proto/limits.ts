/** The times and sizes that coordinator and worker have to agree on, each with its reason. */

import { PROTOCOL_VERSION } from "./version.ts";

/** How often a worker says that it lives, and how far it is. */
export const HEARTBEAT_INTERVAL_MS = 1_000;

/** Without a heartbeat for this long a worker is lost: four in a row may go missing. */
export const LEASE_MS = 5 * HEARTBEAT_INTERVAL_MS;

/**
 * A gang's members must have found one another within this time; all of them are there and idle.
 */
export const FORMATION_TIMEOUT_MS = 30_000;

/** A drained worker gives up a step that takes longer: whoever preempts it does not wait long. */
export const DRAIN_TIMEOUT_MS = 20_000;

/** A message that cannot be sent or read within this time counts as lost. */
export const CALL_TIMEOUT_MS = 10_000;

/**
 * grpc-js sends no keepalive by default, and then never notices a peer that was stopped or
 * unplugged; with these it does within 3 s. For clients and servers alike.
 */
export const KEEPALIVE_OPTIONS = {
  "grpc.keepalive_time_ms": 2_000,
  "grpc.keepalive_timeout_ms": 1_000,
  "grpc.keepalive_permit_without_calls": 1,
} as const;

/**
 * For every client of the coordinator: a restarted one is found again within 2 s, not within 120.
 */
export const CLIENT_OPTIONS = {
  ...KEEPALIVE_OPTIONS,
  "grpc.initial_reconnect_backoff_ms": 250,
  "grpc.max_reconnect_backoff_ms": 2_000,
} as const;

/** Metadata key with the sender's PROTOCOL_VERSION; operators' calls have no field for it. */
export const VERSION_METADATA_KEY = "simclr-protocol-version";

/** How many ranks a stage may have. */
export const RANKS_MAX = 10_000;

/** What ids of workers and experiments look like, on the wire and in options. */
export const ID_PATTERN = /^[A-Za-z0-9_.:-]{1,100}$/;
export const ID_RULE = "must be 1 to 100 of A-Z a-z 0-9 _ . : -";

/** Metadata key with the join token, as bytes: operators' calls have no field for it. */
export const JOIN_TOKEN_METADATA_KEY = "simclr-join-token-bin";

/** Texts for people are cut at this length on their way over the network. */
export const TEXT_LENGTH_MAX = 2_000;

/** Value of VERSION_METADATA_KEY that this build sends and accepts. */
export const VERSION_METADATA_VALUE = String(PROTOCOL_VERSION);

/** How many numbers of neighbours a k-NN evaluation may be asked for: each is a metric's series. */
export const NEIGHBOURS_LENGTH_MAX = 10;

/** Of a log's line on its way to the coordinator: what happened, and everything else as JSON. */
export const LOG_EVENT_LENGTH_MAX = 500;
export const LOG_DETAILS_LENGTH_MAX = 4_000;

/** As many lines a worker sends at once. */
export const LOG_LINES_MAX = 64;
