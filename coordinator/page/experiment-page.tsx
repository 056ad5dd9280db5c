/** Everything about one experiment. */

import { formatDuration, formatFigure } from "../../proto/cli/format.ts";
import type { SessionView } from "../http/api-routes.ts";
import type { ExperimentDetail, FleetWorker } from "../http/fleet-view.ts";
import { Actions } from "./actions.tsx";
import { CurveCharts } from "./curve-charts.tsx";
import { Empty } from "./empty.tsx";
import { percent } from "./experiment-list.tsx";
import { GangCard } from "./gang-card.tsx";
import { LogCard } from "./log-card.tsx";
import { RecipeCard, ResultCard } from "./result-card.tsx";
import { OVERVIEW } from "./route.ts";
import { StageTrack } from "./stage-track.tsx";
import { StateBadge } from "./state-badge.tsx";
import { Ago } from "./time-text.tsx";
import { TimelineCard } from "./timeline-card.tsx";

export function ExperimentPage(props: {
  readonly id: string;
  /** Null when there is none of that id; absent until it is known. */
  readonly detail: ExperimentDetail | null | undefined;
  readonly workers: readonly FleetWorker[];
  readonly access: SessionView["access"];
}) {
  const { id, detail, workers, access } = props;
  return (
    <>
      <nav class="crumbs" aria-label="Breadcrumb">
        <a href={OVERVIEW}>Fleet</a> <span aria-hidden="true">/</span> {id}
      </nav>
      {detail === undefined ? <p class="quiet">Loading …</p> : null}
      {detail === null ? <NotThere id={id} /> : null}
      {detail ? <Detail detail={detail} workers={workers} access={access} /> : null}
    </>
  );
}

function NotThere({ id }: { readonly id: string }) {
  return (
    <section class="card">
      <h1 tabIndex={-1}>No experiment {id}</h1>
      <Empty title="It was removed, or never was." command="npx coordinator list">
        <p>See which there are:</p>
      </Empty>
    </section>
  );
}

function Detail(props: {
  readonly detail: ExperimentDetail;
  readonly workers: readonly FleetWorker[];
  readonly access: SessionView["access"];
}) {
  const { detail, workers, access } = props;
  const { experiment, results, curves, timeline, recipe } = detail;
  return (
    <>
      <header class="head">
        <div>
          <h1 tabIndex={-1}>{experiment.id}</h1>
          <p class="quiet">
            {experiment.name} · submitted <Ago unixMs={experiment.submittedUnixMs} />
          </p>
        </div>
        {access === "signed-in" ? <Actions experiment={experiment} /> : null}
      </header>
      <section class="card now" aria-label="State">
        <p class="state">
          <StateBadge state={experiment.state} />
          {experiment.reason ? <span>{experiment.reason}</span> : null}
        </p>
        <StageTrack experiment={experiment} recipe={recipe} />
        <Facts experiment={experiment} />
      </section>
      <CurveCharts curves={curves} present={experiment.stage} />
      <ResultCard results={results} />
      <GangCard experiment={experiment} workers={workers} />
      <TimelineCard timeline={timeline} />
      <LogCard id={experiment.id} ranks={experiment.ranks} />
      <RecipeCard recipe={recipe} />
    </>
  );
}

function Facts({ experiment }: Pick<ExperimentDetail, "experiment">) {
  const { progress, generation, restarts, state } = experiment;
  const isRunning = state === "running";
  const [nearest] = progress?.knn ?? [];
  const facts: readonly (readonly [string, string | undefined])[] = [
    ["Loss", progress && formatFigure(progress.loss)],
    [
      nearest ? `${nearest.neighbours}-NN top-1` : "Top-1",
      progress?.top1 === undefined ? nearest && percent(nearest.top1) : percent(progress.top1),
    ],
    ["Probe top-1", progress?.probeTop1 === undefined ? undefined : percent(progress.probeTop1)],
    ["Images/s", progress && isRunning ? formatFigure(progress.imagesPerSecond) : undefined],
    ["ETA", progress && isRunning ? formatDuration(progress.etaSeconds) : undefined],
    ["Checkpoint", progress?.checkpointStep ? `step ${progress.checkpointStep}` : undefined],
    ["Generation", String(generation)],
    ["Restarts", String(restarts)],
  ];
  return (
    <dl class="facts">
      {facts.map(([name, value]) =>
        value === undefined ? null : (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ),
      )}
    </dl>
  );
}
