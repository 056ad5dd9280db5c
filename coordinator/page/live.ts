/**
 * The stream of the fleet's changes. It opens itself again whenever it breaks, and is let go while
 * nobody looks at the page: browsers have few connections for all tabs of a site.
 */

import { useEffect, useState } from "preact/hooks";
import type { FleetChange, FleetSnapshot } from "../http/fleet-changes.ts";
import { applyChange, type FleetState } from "./fleet-state.ts";

/** Three heartbeats of the stream. */
const SILENCE_MS = 45_000;
const RETRY_MS = 3_000;
const HIDDEN_MS = 60_000;

export interface Live {
  /** Absent until the first snapshot. */
  readonly state?: FleetState;
  readonly isConnected: boolean;
  /** What the coordinator's clock is ahead of the browser's. */
  readonly aheadMs: number;
}

const NOTHING: Live = { isConnected: false, aheadMs: 0 };

/** @param detailOf id of the experiment of which everything is wanted */
export function useLive(detailOf: string | undefined): Live {
  const [live, setLive] = useState<Live>(NOTHING);
  useEffect(() => {
    // What is known of the fleet holds on; another experiment's details do not.
    setLive((before) => {
      const { state, ...rest } = before;
      return state ? { ...rest, state: { fleet: state.fleet } } : before;
    });
    return keepOpen(detailOf, setLive);
  }, [detailOf]);
  return live;
}

type Update = (change: (before: Live) => Live) => void;

function keepOpen(detailOf: string | undefined, update: Update): () => void {
  const query = detailOf === undefined ? "" : `?experiment=${encodeURIComponent(detailOf)}`;
  let source: EventSource | undefined;
  let timer: number | undefined;
  let hiding: number | undefined;

  const later = (ms: number): void => {
    clearTimeout(timer);
    timer = window.setTimeout(open, ms);
  };
  const lose = (): void => update((before) => ({ ...before, isConnected: false }));
  const close = (): void => {
    clearTimeout(timer);
    source?.close();
    source = undefined;
  };
  const open = (): void => {
    close();
    const opened = new EventSource(`api/stream${query}`);
    source = opened;
    later(SILENCE_MS);
    const on = <Data>(event: string, take: (data: Data) => (before: Live) => Live): void => {
      opened.addEventListener(event, ({ data }: MessageEvent<string>) => {
        later(SILENCE_MS);
        update(take(JSON.parse(data) as Data));
      });
    };
    on<FleetSnapshot>("snapshot", (state) => () => present(state));
    on<FleetChange>("change", (change) => (before) => {
      return before.state ? present(applyChange(before.state, change)) : before;
    });
    on<object>("alive", () => (before) => before);
    opened.addEventListener("error", () => {
      lose();
      // It tries again by itself unless it was refused.
      if (opened.readyState === EventSource.CLOSED) later(RETRY_MS);
    });
  };
  const onVisibility = (): void => {
    clearTimeout(hiding);
    if (document.hidden) hiding = window.setTimeout(close, HIDDEN_MS);
    else if (!source) open();
  };

  document.addEventListener("visibilitychange", onVisibility);
  open();
  return () => {
    document.removeEventListener("visibilitychange", onVisibility);
    clearTimeout(hiding);
    close();
  };
}

function present(state: FleetState): Live {
  return { state, isConnected: true, aheadMs: state.fleet.nowUnixMs - Date.now() };
}
