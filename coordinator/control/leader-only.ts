/** Calls that only the leader may answer: a standby refuses them, and says where the leader is. */

import type { UntypedServiceImplementation } from "@grpc/grpc-js";
import { FleetError } from "../../proto/errors.ts";
import { toServiceError } from "../../proto/grpc-errors.ts";

/** What every handler of grpc-js gets: a call, and for unary calls the way to answer it. */
type Handler = (call: { emit(event: "error", error: Error): unknown }, answer?: Answer) => void;
type Answer = (error: Error) => void;

/** The same service, which fails each call with what `check` throws. */
export function leaderOnly<Service extends UntypedServiceImplementation>(
  service: Service,
  check: () => void,
): Service {
  const guard =
    (handle: Handler): Handler =>
    (call, answer) => {
      try {
        check();
      } catch (thrown) {
        const error = toServiceError(FleetError.from(thrown));
        if (answer) answer(error);
        else call.emit("error", error);
        return;
      }
      handle(call, answer);
    };
  const entries = Object.entries(service).map(([name, handle]) => [name, guard(handle as Handler)]);
  return Object.fromEntries(entries) as Service;
}
