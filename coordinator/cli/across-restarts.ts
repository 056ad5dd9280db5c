/** Calls that stay open, opened again when the coordinator goes away and comes back. */

import { FleetError } from "../../proto/errors.ts";

/** How long a coordinator that goes away is waited for. */
const RECONNECT_TIMEOUT_MS = 60_000;
const RECONNECT_PAUSE_MS = 1_000;

/** @param open begins anew, whatever has come before */
export async function* acrossRestarts<Message>(
  open: () => AsyncGenerator<Message>,
): AsyncGenerator<Message, void, undefined> {
  let patienceEndMs = 0;
  for (;;) {
    let hasHeard = false;
    try {
      for await (const message of open()) {
        hasHeard = true;
        yield message;
      }
      return;
    } catch (thrown) {
      const { code } = FleetError.from(thrown);
      if (hasHeard) patienceEndMs = performance.now() + RECONNECT_TIMEOUT_MS;
      // One that is about to stop may close a connection as if it refused the certificate.
      const isGone = code === "COORDINATOR_UNREACHABLE" || code === "TLS_REFUSED";
      if (!isGone || performance.now() >= patienceEndMs) throw thrown;
      await new Promise((resolve) => setTimeout(resolve, RECONNECT_PAUSE_MS));
    }
  }
}
