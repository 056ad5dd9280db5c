/** What waits for workers, in the order in which it goes, and the jobs of the queue behind it. */

import type { ExperimentSummary } from "../http/fleet-view.ts";
import { Count } from "./experiment-list.tsx";
import { experimentHref } from "./route.ts";
import { Ago } from "./time-text.tsx";

/** BullMQ's names for the states of a job, in words that fit our use of them. */
const JOB_STATES: Readonly<Record<string, string>> = {
  prioritized: "to be looked at",
  active: "being handed over",
  delayed: "handed over",
  "waiting-children": "behind an earlier stage",
  completed: "done",
  failed: "failed",
};

export function QueueCard(props: {
  readonly experiments: readonly ExperimentSummary[];
  readonly queue: Readonly<Record<string, number>> | undefined;
}) {
  const waiting = props.experiments
    .filter(({ state }) => state === "waiting")
    .toSorted((a, b) => b.priority - a.priority || a.submittedUnixMs - b.submittedUnixMs);
  const jobs = Object.entries(JOB_STATES).flatMap(([state, words]) => {
    const count = props.queue?.[state] ?? 0;
    return count > 0 ? [{ state, words, count }] : [];
  });
  return (
    <section class="card" aria-labelledby="queue">
      <h2 id="queue">
        Queue <Count of={waiting.length} />
      </h2>
      {waiting.length === 0 ? <p class="quiet">Nothing waits for workers.</p> : null}
      <ol class="queue">
        {waiting.map((one) => (
          <li key={one.id}>
            <a href={experimentHref(one.id)}>{one.id}</a>
            <span class="sub">
              {one.reason || "waits"}
              {one.priority === 0 ? "" : ` · priority ${one.priority}`} ·{" "}
              <Ago unixMs={one.submittedUnixMs} />
            </span>
          </li>
        ))}
      </ol>
      <p class="jobs">
        {jobs.map(({ state, words, count }) => (
          <span key={state} class="chip">
            <b>{count}</b> {words}
          </span>
        ))}
      </p>
      <p>
        <a href="queues" target="_self">
          Stages in Bull Board
        </a>
      </p>
    </section>
  );
}
