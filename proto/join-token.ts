/** The secret of a cluster: whoever shows it may join, command, and pull from its workers. */

import { createHash, timingSafeEqual } from "node:crypto";
import { FleetError } from "./errors.ts";

/**
 * Checks what somebody shows, in a time that tells nothing of the secret, its length included.
 *
 * @param expected empty where the cluster has no secret
 * @throws {FleetError} JOIN_REFUSED
 */
export function checkJoinToken(shown: string, expected: string): void {
  if (timingSafeEqual(digest(shown), digest(expected))) return;
  const problem = shown === "" ? "is missing" : "is not this cluster's";
  throw new FleetError("JOIN_REFUSED", `the join token ${problem}`);
}

function digest(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}
