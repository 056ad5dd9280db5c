/** The page: its frame, and the view that the address names. */

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import type { SessionView } from "../http/api-routes.ts";
import { Announcer } from "./announcer.tsx";
import { askAccess, askApi } from "./ask-api.ts";
import { ExperimentPage } from "./experiment-page.tsx";
import { type Live, useLive } from "./live.ts";
import { NowContext, useTicking } from "./now.ts";
import { Overview } from "./overview.tsx";
import { OVERVIEW, type Route, SIGN_IN, useRoute } from "./route.ts";
import { SignIn } from "./sign-in.tsx";

/** Longer than it takes to open the stream again for another view. */
const LOST_AFTER_MS = 2_000;

type Access = SessionView["access"];

export function App() {
  const route = useRoute();
  const live = useLive(route.view === "experiment" ? route.id : undefined);
  const [access, refreshAccess] = useAccess(live.isConnected);
  const main = useRef<HTMLElement>(null);
  const view = route.view === "experiment" ? route.id : route.view;
  useViewFocus(main, view);
  const problems = live.state?.fleet.problems ?? [];
  return (
    <NowContext.Provider value={useTicking(live.aheadMs)}>
      <button type="button" class="skip" onClick={() => main.current?.focus()}>
        Skip to content
      </button>
      <Header access={access} onSignedOut={refreshAccess} live={live} />
      {problems.length > 0 ? (
        <p class="banner" role="status">
          This coordinator {problems.join("; ")}.
        </p>
      ) : null}
      <LostBanner isConnected={live.isConnected} />
      <main ref={main} tabIndex={-1}>
        <View route={route} live={live} access={access} onSignedIn={refreshAccess} />
      </main>
      <footer>simclr-fleet {live.state?.fleet.version ?? ""}</footer>
      <Announcer experiments={live.state?.fleet.experiments} />
    </NowContext.Provider>
  );
}

function View(props: {
  readonly route: Route;
  readonly live: Live;
  readonly access: Access;
  readonly onSignedIn: () => void;
}) {
  const { route, live, access, onSignedIn } = props;
  const { state } = live;
  if (route.view === "sign-in") {
    return <SignIn access={access} next={route.next} onSignedIn={onSignedIn} />;
  }
  if (!state) return <p class="quiet">Connecting …</p>;
  const { fleet, detail } = state;
  if (route.view === "overview") return <Overview fleet={fleet} />;
  const { id } = route;
  const workers = fleet.workers;
  return <ExperimentPage id={id} detail={detail} workers={workers} access={access} />;
}

function Header(props: {
  readonly access: Access;
  readonly onSignedOut: () => void;
  readonly live: Live;
}) {
  const { access, onSignedOut, live } = props;
  const signOut = async (): Promise<void> => {
    await askApi("logout", {}).catch(() => {});
    onSignedOut();
  };
  return (
    <header class="top">
      <a class="brand" href={OVERVIEW}>
        <img src="icon.svg" alt="" width="26" height="26" />
        simclr-fleet
      </a>
      <span class={`pulse ${live.isConnected ? "on" : ""}`}>
        {live.isConnected ? "live" : "connecting"}
      </span>
      <span class="space" />
      {access === "read-only" ? <span class="quiet">read-only</span> : null}
      {access === "signed-out" ? (
        <a class="button" href={SIGN_IN}>
          Sign in
        </a>
      ) : null}
      {access === "signed-in" ? (
        <button type="button" onClick={() => void signOut()}>
          Sign out
        </button>
      ) : null}
    </header>
  );
}

/** Stands there once the connection is lost for longer than a moment. */
function LostBanner({ isConnected }: { readonly isConnected: boolean }) {
  const [isLost, setLost] = useState(false);
  useEffect(() => {
    if (isConnected) return setLost(false);
    const timer = setTimeout(() => setLost(true), LOST_AFTER_MS);
    return () => clearTimeout(timer);
  }, [isConnected]);
  return (
    <div role="alert">
      {isLost ? (
        <p class="banner">
          The coordinator does not answer. What stands here is old; it is tried again all the time.
        </p>
      ) : null}
    </div>
  );
}

/** What the page may do; asked with each connection, since a new coordinator knows nobody. */
function useAccess(isConnected: boolean): readonly [Access, () => void] {
  const [access, setAccess] = useState<Access>("read-only");
  const refresh = useCallback(() => {
    askAccess().then(setAccess, () => {});
  }, []);
  useEffect(() => {
    if (isConnected) refresh();
  }, [isConnected]);
  return [access, refresh];
}

/** The heading of a view that was gone to has the focus; the first view leaves it where it is. */
function useViewFocus(main: { readonly current: HTMLElement | null }, view: string): void {
  const before = useRef(view);
  useEffect(() => {
    if (before.current === view) return;
    before.current = view;
    scrollTo(0, 0);
    (main.current?.querySelector<HTMLElement>("h1") ?? main.current)?.focus();
  }, [view]);
}
