/** Why the API server did not do what it was asked, and what a person can do about it. */

import { ApiException } from "@kubernetes/client-node";

const MESSAGE_LENGTH_MAX = 500;

export class ApiProblem extends Error {
  override readonly name = "ApiProblem";
  /** Of HTTP; undefined when there was no answer. */
  readonly status: number | undefined;
  /** How long it wants to be left alone, ms. */
  readonly retryAfterMs: number | undefined;

  constructor(
    message: string,
    answer: { readonly status?: number; readonly retryAfterMs?: number } = {},
  ) {
    super(message);
    this.status = answer.status;
    this.retryAfterMs = answer.retryAfterMs;
  }

  /** @param thrown what the client threw, or why it was given up */
  static of(
    thrown: unknown,
    { what, server }: { readonly what: string; readonly server: string },
  ): ApiProblem {
    if (!(thrown instanceof ApiException)) {
      const why = thrown instanceof Error ? thrown.message : String(thrown);
      return new ApiProblem(`cannot ${what} at ${server}: ${why}`);
    }
    const { code: status, body, headers } = thrown;
    const said = messageOf(body).slice(0, MESSAGE_LENGTH_MAX);
    const seconds = Number(headers["retry-after"] ?? Number.NaN);
    return new ApiProblem(`cannot ${what} at ${server}: ${status} ${said}${adviceFor(status)}`, {
      status,
      ...(seconds > 0 ? { retryAfterMs: 1_000 * seconds } : {}),
    });
  }

  /** Whether the request itself is the problem: others may well be answered. */
  get isOfRequest(): boolean {
    const { status } = this;
    return status !== undefined && status < 500 && status !== 401 && status !== 429;
  }
}

/** The API server answers with a Status object as a rule, and a proxy before it with anything. */
function messageOf(body: unknown): string {
  const parsed = typeof body === "string" ? parse(body) : body;
  if (typeof parsed === "object" && parsed !== null && "message" in parsed) {
    return String(parsed.message);
  }
  return typeof body === "string" ? body.trim() : "";
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // It is no Status, then.
    return undefined;
  }
}

function adviceFor(status: number): string {
  if (status === 401) return "; check the credentials of the kubeconfig or the service account";
  if (status === 403) return "; a Role has to allow get, list, create and delete of jobs in batch";
  if (status === 404) return "; is there such a namespace?";
  if (status === 422) return "; check --worker-template";
  return "";
}
