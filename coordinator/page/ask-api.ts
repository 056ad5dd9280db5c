/** Requests to the coordinator's API. */

import type { SessionView } from "../http/api-routes.ts";
import type { ErrorAnswer } from "../http/error-answer.ts";

/** @throws {Error} whose message is for people */
export async function askApi<Answer>(path: string, body?: object): Promise<Answer> {
  const init = { method: "POST", headers: { "Content-Type": "application/json" } };
  const request = body === undefined ? undefined : { ...init, body: JSON.stringify(body) };
  const response = await fetch(`api/${path}`, request).catch(() => undefined);
  if (!response) throw new Error("the coordinator does not answer");
  const answer: unknown = await response.json().catch(() => undefined);
  if (response.ok) return answer as Answer;
  const message = (answer as ErrorAnswer | undefined)?.error?.message;
  throw new Error(message ?? `the coordinator answers with ${response.status}`);
}

export async function askAccess(): Promise<SessionView["access"]> {
  return (await askApi<SessionView>("session")).access;
}
