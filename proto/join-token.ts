/** The secret of a cluster: whoever shows it may join, command, and pull from its workers. */

import { createHash, timingSafeEqual } from "node:crypto";
import { FleetError } from "./errors.ts";

/**
 * Checks what somebody shows.
 *
 * @param expected empty where the cluster has no secret
 * @throws {FleetError} JOIN_REFUSED
 */
export function checkJoinToken(shown: string, expected: string): void {
  if (isSameSecret(shown, expected)) return;
  const problem = shown === "" ? "is missing" : "is not this cluster's";
  throw new FleetError("JOIN_REFUSED", `the join token ${problem}`);
}

/** Whether somebody shows the secret, in a time that tells nothing of it, its length included. */
export function isSameSecret(shown: string, expected: string): boolean {
  return timingSafeEqual(digest(shown), digest(expected));
}

function digest(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}
