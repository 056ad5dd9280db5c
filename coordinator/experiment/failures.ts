/** What broke a gang: which of several failures the others follow from, and how to say it. Pure. */

import assert from "node:assert/strict";
import { ERROR_SPECS, type ErrorCode } from "../../proto/errors.ts";
import type { ExperimentEvent } from "./experiment.ts";
import type { Failure, LostContact } from "./phase.ts";

type EventOf<Type> = Extract<ExperimentEvent, { type: Type }>;

/** Whether another generation would meet the same failure. */
export function isFatal(code: ErrorCode): boolean {
  const { remedy } = ERROR_SPECS[code];
  return remedy === "user" || remedy === "none";
}

/**
 * The failure that the others follow from. A fatal error goes before others, an error before a
 * member that is gone, and that before members that only saw the gang break, since the clocks of
 * members differ; of equals it is the earliest.
 */
export function rootCause(failures: readonly Failure[]): Failure {
  const [root] = failures.toSorted((a, b) => weight(a) - weight(b) || a.unixMs - b.unixMs);
  assert.ok(root, "a gang breaks up for a reason");
  return root;
}

function weight({ kind, code }: Failure): number {
  if (isFatal(code)) return 0;
  if (kind === "error") return 1;
  return kind === "lost" ? 2 : 3;
}

/** One line for people, which names the rank. */
export function describe({ kind, rank, code, message }: Failure): string {
  return kind === "error" ? `rank ${rank}: ${code}: ${message}` : `rank ${rank} ${message}`;
}

/** What a member's message, or its absence, tells of a gang's end. */
export function toFailure(
  gang: readonly string[],
  event: EventOf<"failure" | "left" | "lost">,
  now: number,
): Failure {
  const rank = gang.indexOf(event.worker);
  if (event.type === "failure") {
    const { code, message, unixMs } = event;
    return { kind: "error", code, message, unixMs, rank };
  }
  const verb = event.type === "lost" ? "was lost" : "left";
  const message = `(worker ${event.name}) ${verb}: ${event.because}`;
  return { kind: event.type, code: "GENERATION_ABORTED", message, unixMs: now, rank };
}

/** Whom a member has lost contact with, in its own words. */
export function lostContactsOf(gang: readonly string[], event: EventOf<"left">): LostContact[] {
  const rank = gang.indexOf(event.worker);
  const ranks = new Set(event.lostRanks.filter((of) => of < gang.length && of !== rank));
  return [...ranks].map((of) => ({ rank, of }));
}
