/**
 * Operating errors on the wire.
 *
 * A gRPC status is too coarse for a person, and its text too loose for a program: the code of the
 * error table travels beside them, in the call's trailing metadata.
 */

import { Metadata, type ServiceError, type StatusObject, status } from "@grpc/grpc-js";
import { ERROR_SPECS, FleetError } from "./errors.ts";
import { TEXT_LENGTH_MAX } from "./limits.ts";
import { PLAINTEXT, type Transport } from "./transport.ts";

const CODE_KEY = "simclr-error-code";
const DETAIL_KEY = "simclr-error-detail";

/** The form in which a gRPC handler returns an error, by callback or `call.emit("error", ...)`. */
export function toServiceError(error: FleetError): StatusObject & Error {
  const metadata = new Metadata();
  metadata.set(CODE_KEY, error.code);
  const detail = encodeURIComponent(JSON.stringify(error.detail));
  if (detail.length <= TEXT_LENGTH_MAX) metadata.set(DETAIL_KEY, detail);
  // grpc-js puts it through encodeURI, which throws on half a character.
  const details = error.message.slice(0, TEXT_LENGTH_MAX).replaceAll(/\p{Surrogate}/gu, "\ufffd");
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
 * @param transport what it was called with
 */
export function fromServiceError(
  failure: ServiceError,
  address: string,
  transport: Transport = PLAINTEXT,
): FleetError {
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
      return unreachable(failure, address, transport);
    case status.UNIMPLEMENTED:
      return new FleetError(
        "VERSION_MISMATCH",
        `the server at ${address} does not know this call; its version is another one`,
        { address },
        failure,
      );
    // From grpc-js itself: a message is larger than the server or this process takes.
    case status.RESOURCE_EXHAUSTED:
      return new FleetError("OVERLOADED", `${address}: ${failure.details}`, { address }, failure);
    default:
      return new FleetError("UNEXPECTED", `${address}: ${failure.message}`, { address }, failure);
  }
}

/**
 * What a failed connection tells of the trust between the two sides, to follow the other's name;
 * undefined when it failed for another reason. Only certain of what is not a matter of the moment.
 */
export function trustProblem(details: string): string | undefined {
  const [, alert] = /SSL routines:.* alert ([a-z ]+):/.exec(details) ?? [];
  if (alert) return `does not accept the certificate shown to it (${alert})`;
  if (/SSL routines:.*(wrong version number|packet length too long)/.test(details)) {
    return "answers in plain text, without TLS: only one of the two has --tls-cert";
  }
  const [, why] = /Last error: Error(?: \[\w+\])?: (.*?)\.? Resolution note:/s.exec(details) ?? [];
  if (!why || !/certificate|CERT_/.test(why)) return undefined;
  return `has a certificate that is not accepted here (${why})`;
}

/**
 * The texts of grpc-js for a server that closes a connection which stands, the TLS handshake
 * included, before it has said anything. What fails earlier begins with "Error: ".
 */
const CLOSED_AT_ONCE = /Last error: (Failed to connect|Connection closed before|\w+ ECONNRESET)/;

/** What grpc-js says of a call that found no connection to go over. */
const NOT_SENT = "No connection established";

function unreachable(failure: ServiceError, address: string, transport: Transport): FleetError {
  const isClosedAtOnce = CLOSED_AT_ONCE.test(failure.details);
  // Who ends a connection after the handshake has shown a good certificate, and seen this one.
  const isRefused = isClosedAtOnce && transport.security === "tls";
  const problem = isRefused
    ? "closed the connection after the handshake: it did not accept the certificate shown to it"
    : trustProblem(failure.details);
  if (problem) {
    const message = `the server at ${address} ${problem}`;
    return new FleetError("TLS_REFUSED", message, { address }, failure);
  }
  const advice = isClosedAtOnce
    ? "connections are closed at once: if it has TLS, give --tls-cert, --tls-key and --tls-ca"
    : "is `coordinator start` running there?";
  const message = `no coordinator answers at ${address}; ${advice}`;
  const mayHaveArrived = !failure.details.includes(NOT_SENT);
  return new FleetError("COORDINATOR_UNREACHABLE", message, { address, mayHaveArrived }, failure);
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
