/**
 * Operating errors on the wire.
 *
 * A gRPC status is too coarse for a person, and its text too loose for a program: the code of the
 * error table travels beside them, in the call's trailing metadata.
 */

import { Metadata, type ServiceError, type StatusObject, status } from "@grpc/grpc-js";
import { ERROR_SPECS, FleetError } from "./errors.ts";
import { TEXT_LENGTH_MAX } from "./limits.ts";

const CODE_KEY = "simclr-error-code";
const DETAIL_KEY = "simclr-error-detail";

/** The form in which a gRPC handler returns an error, by callback or `call.emit("error", ...)`. */
export function toServiceError(error: FleetError): StatusObject & Error {
  const metadata = new Metadata();
  metadata.set(CODE_KEY, error.code);
  const detail = encodeURIComponent(JSON.stringify(error.detail));
  if (detail.length <= TEXT_LENGTH_MAX) metadata.set(DETAIL_KEY, detail);
  const details = error.message.slice(0, TEXT_LENGTH_MAX);
  return Object.assign(new Error(details), {
    code: ERROR_SPECS[error.code].grpc,
    details,
    metadata,
  });
}

/**
 * The operating error behind a failed call.
 *
 * @param address what was called, HOST:PORT, for the message when nothing answers there
 */
export function fromServiceError(failure: ServiceError, address: string): FleetError {
  const [code] = failure.metadata?.get(CODE_KEY) ?? [];
  if (code !== undefined) {
    const { message, detail } = { message: failure.details, detail: readDetail(failure) };
    return FleetError.fromPlain({ code: String(code), message, detail });
  }

  switch (failure.code) {
    // A server that is shutting down cancels the calls that are open.
    case status.CANCELLED:
    case status.UNAVAILABLE:
    case status.DEADLINE_EXCEEDED:
      return new FleetError(
        "COORDINATOR_UNREACHABLE",
        `no coordinator answers at ${address}; is \`coordinator start\` running there?`,
        { address },
        failure,
      );
    case status.UNIMPLEMENTED:
      return new FleetError(
        "VERSION_MISMATCH",
        `the server at ${address} does not know this call; its version is another one`,
        { address },
        failure,
      );
    default:
      return new FleetError("UNEXPECTED", `${address}: ${failure.message}`, { address }, failure);
  }
}

function readDetail(failure: ServiceError): Record<string, string | number | boolean> {
  const [text] = failure.metadata.get(DETAIL_KEY);
  if (text === undefined) return {};
  try {
    return JSON.parse(decodeURIComponent(String(text)));
  } catch {
    // The detail only adds to the message: a damaged one must not hide the error itself.
    return {};
  }
}
