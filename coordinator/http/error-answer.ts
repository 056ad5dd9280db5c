/** Errors as JSON, with the code that commands exit by. */

import type { ErrorRequestHandler, Response } from "express";
import { type ErrorCode, FleetError } from "../../proto/errors.ts";
import type { Log } from "../../proto/log.ts";

/** What a request that has failed is answered with. */
export interface ErrorAnswer {
  readonly error: { readonly code: ErrorCode; readonly message: string };
}

const STATUS: Readonly<Partial<Record<ErrorCode, number>>> = {
  USAGE: 400,
  JOIN_REFUSED: 401,
  NOT_FOUND: 404,
  STATE_CONFLICT: 409,
  OVERLOADED: 429,
  COORDINATOR_UNREACHABLE: 503,
  REDIS_UNREACHABLE: 503,
  LEADERSHIP_LOST: 503,
};

export function answerError(response: Response, error: FleetError, status?: number): void {
  const { code, message } = error;
  const body: ErrorAnswer = { error: { code, message } };
  response.status(status ?? STATUS[code] ?? 500).json(body);
}

/** Answers whatever a handler throws; what nobody expected goes to the log, not to the caller. */
export function errorAnswers(log: Log): ErrorRequestHandler {
  return (thrown, { path }, response, _next) => {
    if (response.headersSent) {
      response.destroy();
      return;
    }
    const error = fromRequest(thrown) ?? FleetError.from(thrown);
    if (error.code !== "UNEXPECTED") return answerError(response, error);
    log.error({ event: "request failed", path, err: thrown });
    const told = "something went wrong; the coordinator's log says what";
    answerError(response, new FleetError("UNEXPECTED", told));
  };
}

/** Errors that Express has about a request: its body, or how its path is written. */
function fromRequest(thrown: unknown): FleetError | undefined {
  const { status, type } = thrown as { readonly status?: unknown; readonly type?: unknown };
  if (typeof status !== "number" || status < 400 || status >= 500) return undefined;
  const isLarge = type === "entity.too.large";
  return isLarge
    ? new FleetError("USAGE", "the body of the request is too large")
    : new FleetError("USAGE", "the request cannot be read");
}
