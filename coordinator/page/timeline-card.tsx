/** What has happened to an experiment, newest first. */

import { useState } from "preact/hooks";
import type { ExperimentDetail } from "../http/fleet-view.ts";
import { Count } from "./experiment-list.tsx";
import { StateBadge } from "./state-badge.tsx";
import { TimeOfDay } from "./time-text.tsx";

const SHOWN_MAX = 30;
/** What somebody may want to look at. */
const NOTABLE: ReadonlySet<string> = new Set([
  "failure",
  "worker-lost",
  "contact-lost",
  "storage-problem",
  "straggler",
  "stop-overdue",
]);

export function TimelineCard({ timeline }: Pick<ExperimentDetail, "timeline">) {
  const [isWhole, setWhole] = useState(false);
  const newest = timeline.toReversed();
  const shown = isWhole ? newest : newest.slice(0, SHOWN_MAX);
  return (
    <section class="card" aria-labelledby="timeline">
      <h2 id="timeline">
        Timeline <Count of={timeline.length} />
      </h2>
      <ol class="timeline">
        {shown.map(({ sequence, unixMs, type, to, message, rank, step }) => (
          <li key={sequence} class={NOTABLE.has(type) ? "notable" : ""}>
            <TimeOfDay unixMs={unixMs} />
            <div>
              {to ? <StateBadge state={to} /> : <b>{type.replaceAll("-", " ")}</b>}
              {rank === undefined ? null : <span class="chip">rank {rank}</span>}
              {step === undefined ? null : <span class="chip">step {step}</span>}
              <span class="message">{message}</span>
            </div>
          </li>
        ))}
      </ol>
      {shown.length < newest.length ? (
        <button type="button" class="more" onClick={() => setWhole(true)}>
          Show all {newest.length}
        </button>
      ) : null}
    </section>
  );
}
