/**
 * The error vocabulary shared by coordinator and worker.
 *
 * An error has a *code*. The code, not the class and not the message, decides who has to act: the
 * gRPC status on the wire, the exit status of the commands and whether the work may be tried again
 * all come from the one table below. Programmer errors are not in it: they fail an `assert` and end
 * the process.
 */

import { status } from "@grpc/grpc-js";

/** Who can make the failed operation succeed. */
type Remedy =
  /** Repeat the same call after a pause. */
  | "retry"
  /** Wait for the coordinator to form the next generation, then continue from the last step. */
  | "next-generation"
  /** A person has to change the input or the machine. */
  | "user"
  /** Nobody: state was lost or is wrong. */
  | "none";

interface ErrorSpec {
  readonly grpc: status;
  /** Exit status of a command that ends with this error. */
  readonly exit: number;
  readonly remedy: Remedy;
  /** One line for the README's table. */
  readonly meaning: string;
}

export const ERROR_SPECS = {
  UNEXPECTED: {
    grpc: status.UNKNOWN,
    exit: 1,
    remedy: "none",
    meaning: "A defect; the message and the log say where.",
  },
  USAGE: {
    grpc: status.INVALID_ARGUMENT,
    exit: 2,
    remedy: "user",
    meaning: "Unknown command, bad option or malformed request.",
  },
  RECIPE_INVALID: {
    grpc: status.INVALID_ARGUMENT,
    exit: 2,
    remedy: "user",
    meaning: "A recipe does not fit the schema; the message names every offending key.",
  },
  EXPERIMENT_FAILED: {
    grpc: status.ABORTED,
    exit: 3,
    remedy: "user",
    meaning: "The watched experiment failed; the message is its root cause.",
  },
  EXPERIMENT_CANCELLED: {
    grpc: status.CANCELLED,
    exit: 4,
    remedy: "user",
    meaning: "The watched experiment was cancelled.",
  },
  NOT_FOUND: {
    grpc: status.NOT_FOUND,
    exit: 5,
    remedy: "user",
    meaning: "No such experiment, recipe or file.",
  },
  STATE_CONFLICT: {
    grpc: status.FAILED_PRECONDITION,
    exit: 6,
    remedy: "user",
    meaning: "The experiment is not in a state that allows this.",
  },
  ENGINE_UNAVAILABLE: {
    grpc: status.FAILED_PRECONDITION,
    exit: 10,
    remedy: "user",
    meaning: "The requested compute engine cannot load on this machine; the message says why.",
  },
  COORDINATOR_UNREACHABLE: {
    grpc: status.UNAVAILABLE,
    exit: 11,
    remedy: "retry",
    meaning:
      "Nothing answers at the coordinator's address, or what does stands by for another one.",
  },
  REDIS_UNREACHABLE: {
    grpc: status.UNAVAILABLE,
    exit: 12,
    remedy: "retry",
    meaning: "Redis does not answer, or no redis-server can be started.",
  },
  PORT_IN_USE: {
    grpc: status.ALREADY_EXISTS,
    exit: 13,
    remedy: "user",
    meaning: "Another process listens on the port.",
  },
  VERSION_MISMATCH: {
    grpc: status.FAILED_PRECONDITION,
    exit: 14,
    remedy: "user",
    meaning: "Coordinator and worker (or client) speak different protocol versions.",
  },
  JOIN_REFUSED: {
    grpc: status.UNAUTHENTICATED,
    exit: 15,
    remedy: "user",
    meaning: "The join token is missing or wrong.",
  },
  CERTIFICATE_INVALID: {
    grpc: status.FAILED_PRECONDITION,
    exit: 16,
    remedy: "user",
    meaning: "A file of TLS is missing, damaged, expired or not of the CA; the message names it.",
  },
  TLS_REFUSED: {
    grpc: status.UNAUTHENTICATED,
    exit: 17,
    remedy: "user",
    meaning: "One side does not accept the other's certificate, or only one of them has TLS.",
  },
  LEADERSHIP_LOST: {
    grpc: status.UNAVAILABLE,
    exit: 18,
    remedy: "retry",
    meaning: "Another coordinator on the same Redis has taken over; this one is fenced off.",
  },
  OVERLOADED: {
    grpc: status.RESOURCE_EXHAUSTED,
    exit: 19,
    remedy: "retry",
    meaning: "Too many or too large requests; the message names the limit.",
  },
  DATA_INVALID: {
    grpc: status.INVALID_ARGUMENT,
    exit: 20,
    remedy: "user",
    meaning: "A data set or log is missing, empty, or too much of it cannot be read.",
  },
  CHECKPOINT_INVALID: {
    grpc: status.DATA_LOSS,
    exit: 21,
    remedy: "user",
    meaning: "A checkpoint is damaged or does not fit the model.",
  },
  LOSS_NOT_FINITE: {
    grpc: status.OUT_OF_RANGE,
    exit: 22,
    remedy: "user",
    meaning: "The loss became NaN or infinite; the last good checkpoint is kept.",
  },
  STORAGE_FAILED: {
    grpc: status.RESOURCE_EXHAUSTED,
    exit: 23,
    remedy: "user",
    meaning: "A file could not be written: disk full, or folder not writable.",
  },
  REPLICAS_DIVERGED: {
    grpc: status.DATA_LOSS,
    exit: 24,
    remedy: "next-generation",
    meaning: "Ranks no longer hold the same weights; the gang goes back to its last checkpoint.",
  },
  GENERATION_ABORTED: {
    grpc: status.ABORTED,
    exit: 30,
    remedy: "next-generation",
    meaning: "The gang broke up: a member was lost, or the coordinator stopped it.",
  },
  PREEMPTED: {
    grpc: status.ABORTED,
    exit: 40,
    remedy: "next-generation",
    meaning: "SIGTERM drained the worker: its step is finished, its state with peers or on disk.",
  },
} as const satisfies Record<string, ErrorSpec>;

export type ErrorCode = keyof typeof ERROR_SPECS;

/** Facts about the failure, safe to log and to send: ids, counts, durations. Never secrets. */
export type ErrorDetail = Readonly<Record<string, string | number | boolean>>;

/** An error in the form that crosses threads and processes, where classes do not survive. */
export interface PlainError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly detail: ErrorDetail;
}

/** An operating error: expected, handled, and reported with a stable code. */
export class FleetError extends Error {
  override readonly name = "FleetError";
  readonly code: ErrorCode;
  readonly detail: ErrorDetail;

  constructor(code: ErrorCode, message: string, detail: ErrorDetail = {}, cause?: unknown) {
    super(message, { cause });
    this.code = code;
    this.detail = detail;
  }

  /** Wraps whatever was thrown. A FleetError passes through, so codes survive rethrowing. */
  static from(thrown: unknown): FleetError {
    if (thrown instanceof FleetError) return thrown;
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    return new FleetError("UNEXPECTED", message, {}, thrown);
  }

  /** Rebuilds an error that came from another thread or process; an unknown code is UNEXPECTED. */
  static fromPlain(plain: {
    readonly code: string;
    readonly message: string;
    readonly detail?: ErrorDetail;
  }): FleetError {
    const code = plain.code in ERROR_SPECS ? (plain.code as ErrorCode) : "UNEXPECTED";
    return new FleetError(code, plain.message, plain.detail);
  }

  get remedy(): Remedy {
    return ERROR_SPECS[this.code].remedy;
  }

  /** Exit status of a command that ends with this error. */
  get exit(): number {
    return ERROR_SPECS[this.code].exit;
  }

  toPlain(): PlainError {
    return { code: this.code, message: this.message, detail: this.detail };
  }
}
