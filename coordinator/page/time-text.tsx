/** Times: how long ago, with the date and time of day for whoever points at it. */

import { formatDuration } from "../../proto/cli/format.ts";
import { useNow } from "./now.ts";

/** Below it a clock is not better than "just now". */
const RECENT_MS = 2_000;

export function Ago({ unixMs }: { readonly unixMs: number }) {
  const ageMs = useNow() - unixMs;
  const text = ageMs < RECENT_MS ? "just now" : `${formatDuration(ageMs / 1_000)} ago`;
  const date = new Date(unixMs);
  return (
    <time dateTime={date.toISOString()} title={date.toLocaleString()}>
      {text}
    </time>
  );
}

/** Time of day; with the date when it is not of today. */
export function TimeOfDay({ unixMs }: { readonly unixMs: number }) {
  const date = new Date(unixMs);
  const isToday = date.toDateString() === new Date(useNow()).toDateString();
  const time = date.toLocaleTimeString(undefined, { hour12: false });
  return (
    <time dateTime={date.toISOString()} title={date.toLocaleString()}>
      {isToday ? time : `${date.toLocaleDateString()} ${time}`}
    </time>
  );
}
