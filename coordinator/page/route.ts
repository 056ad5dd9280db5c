/** Which view it is: behind the `#`, so that the page works under any path of a proxy. */

import { useEffect, useState } from "preact/hooks";

export type Route =
  | { readonly view: "overview" }
  | { readonly view: "experiment"; readonly id: string }
  | { readonly view: "sign-in"; readonly next: string };

export const OVERVIEW = "#/";
export const SIGN_IN = "#/sign-in";

export function experimentHref(id: string): string {
  return `#/experiments/${encodeURIComponent(id)}`;
}

export function useRoute(): Route {
  const [route, setRoute] = useState(() => parseRoute(location.hash));
  useEffect(() => {
    const follow = (): void => setRoute(parseRoute(location.hash));
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  return route;
}

function parseRoute(hash: string): Route {
  const [path = "", query] = hash.replace(/^#/, "").split("?");
  const [, id] = /^\/experiments\/([^/]+)$/.exec(path) ?? [];
  if (id !== undefined) return { view: "experiment", id: decode(id) };
  if (path !== "/sign-in") return { view: "overview" };
  // Nowhere but to our own pages.
  const next = new URLSearchParams(query).get("next") ?? OVERVIEW;
  return { view: "sign-in", next: /^(#\/|\/queues$)/.test(next) ? next : OVERVIEW };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
