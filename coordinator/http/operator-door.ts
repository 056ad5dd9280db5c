/**
 * Who may change something over HTTP: whoever shows the operator token, in a header or once at the
 * sign-in, which gives a cookie. Where no token is configured nobody may.
 *
 * A browser sends the cookie along with whatever any page makes it send; so requests that change
 * something must come from our own page.
 */

import type { Request, RequestHandler, Response } from "express";
import { FleetError } from "../../proto/errors.ts";
import { isSameSecret } from "../../proto/join-token.ts";
import { TokenBuckets } from "../../proto/token-bucket.ts";
import type { ControlRefusals } from "../control/refusal-reasons.ts";
import { answerError } from "./error-answer.ts";
import type { HttpLimits } from "./http-limits.ts";
import { OperatorSessions, SESSION_MS } from "./operator-sessions.ts";

const ADDRESSES_MAX = 4_096;
const TOKEN_LENGTH_MAX = 1_024;

/** What the page may show: nothing can be changed, one has to sign in for that, or has. */
export type Access = "read-only" | "signed-out" | "signed-in";

export interface OperatorDoorOptions {
  /** Empty when nobody may change anything over HTTP. */
  readonly operatorToken: string;
  readonly limits: Pick<HttpLimits, "wrongTokens" | "sessions">;
  readonly refusals: ControlRefusals;
}

export class OperatorDoor {
  readonly #token: string;
  readonly #sessions: OperatorSessions;
  readonly #wrong: TokenBuckets;
  readonly #refusals: ControlRefusals;

  constructor({ operatorToken, limits, refusals }: OperatorDoorOptions) {
    this.#token = operatorToken;
    this.#sessions = new OperatorSessions(limits.sessions);
    this.#wrong = new TokenBuckets(limits.wrongTokens, ADDRESSES_MAX);
    this.#refusals = refusals;
  }

  access(request: Request): Access {
    if (this.#token === "") return "read-only";
    const id = cookieOf(request);
    return this.#sessions.has(id, performance.now()) ? "signed-in" : "signed-out";
  }

  /** Lets pass who is signed in or shows the token. */
  readonly guard: RequestHandler = (request, response, next) => {
    const { authorization } = request.headers;
    try {
      if (authorization !== undefined) this.#check(bearerOf(authorization), request);
      else if (this.access(request) !== "signed-in") throw this.#missing();
    } catch (thrown) {
      const error = FleetError.from(thrown);
      if (error.code === "JOIN_REFUSED") response.set("WWW-Authenticate", "Bearer");
      return answerError(response, error, this.#token === "" ? 403 : undefined);
    }
    next();
  };

  /** Lets pass what our own page, or no browser at all, has sent. */
  readonly ownPageOnly: RequestHandler = (request, response, next) => {
    if (isFromElsewhere(request)) {
      const message = "this request came from another site's page";
      this.#refusals.add("cross-site", { peer: addressOf(request), path: request.path });
      return answerError(response, new FleetError("USAGE", message), 403);
    }
    next();
  };

  /** @throws {FleetError} JOIN_REFUSED, OVERLOADED, USAGE */
  signIn(request: Request, response: Response): void {
    const { token } = (request.body ?? {}) as { readonly token?: unknown };
    if (this.#token === "") throw this.#missing();
    if (typeof token !== "string" || token.length > TOKEN_LENGTH_MAX) {
      throw new FleetError("USAGE", 'the body must be JSON: {"token": "..."}');
    }
    this.#check(token, request);
    const id = this.#sessions.begin(performance.now());
    response.cookie(cookieName(request), id, { ...COOKIE, maxAge: SESSION_MS });
  }

  signOut(request: Request, response: Response): void {
    this.#sessions.end(cookieOf(request));
    response.clearCookie(cookieName(request), COOKIE);
  }

  /** @throws {FleetError} JOIN_REFUSED; OVERLOADED after several wrong ones, right or not */
  #check(token: string, request: Request): void {
    const address = addressOf(request);
    const now = performance.now();
    if (this.#token === "") throw this.#missing();
    if (!this.#wrong.has(address, now)) {
      this.#refusals.add("overloaded", { peer: address, because: "wrong operator tokens" });
      throw new FleetError("OVERLOADED", "too many wrong operator tokens; try again in a minute");
    }
    if (isSameSecret(token, this.#token)) return;
    this.#wrong.take(address, now);
    this.#refusals.add("operator-token", { peer: address });
    throw new FleetError("JOIN_REFUSED", "the operator token is not this coordinator's");
  }

  #missing(): FleetError {
    const why =
      this.#token === ""
        ? "this coordinator has no operator token, so nothing can be changed over HTTP; " +
          "start it with $SIMCLR_OPERATOR_TOKEN"
        : "sign in first, or show the operator token as a bearer token";
    return new FleetError("JOIN_REFUSED", why);
  }
}

const COOKIE = { httpOnly: true, sameSite: "strict", path: "/" } as const;

/** Browsers keep cookies by host and not by port, where several coordinators may listen. */
function cookieName({ socket }: Request): string {
  return `simclr-operator-${socket.localPort}`;
}

function cookieOf(request: Request): string {
  const name = `${cookieName(request)}=`;
  const cookies = (request.headers.cookie ?? "").split(/; */);
  return cookies.find((cookie) => cookie.startsWith(name))?.slice(name.length) ?? "";
}

function bearerOf(authorization: string): string {
  return /^Bearer +(.+)$/i.exec(authorization)?.[1] ?? "";
}

/** Browsers say where a request comes from; a cookie without that is not theirs. */
function isFromElsewhere({ headers }: Request): boolean {
  const { host, origin, authorization, cookie } = headers;
  const site = headers["sec-fetch-site"];
  if (site !== undefined) return site !== "same-origin";
  if (origin !== undefined) return !URL.canParse(origin) || new URL(origin).host !== host;
  return cookie !== undefined && authorization === undefined;
}

function addressOf({ socket }: Request): string {
  return socket.remoteAddress ?? "";
}
