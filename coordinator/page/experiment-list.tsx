/** The experiments of the fleet: those that something may still happen to, then the others. */

import { useState } from "preact/hooks";
import { formatDuration, formatFigure } from "../../proto/cli/format.ts";
import type { ExperimentSummary } from "../http/fleet-view.ts";
import { type Column, DataTable } from "./data-table.tsx";
import { Empty } from "./empty.tsx";
import { ProgressCell } from "./progress-cell.tsx";
import { experimentHref } from "./route.ts";
import { StateBadge } from "./state-badge.tsx";
import { Ago } from "./time-text.tsx";

const SHOWN_MAX = 20;
const OVER: ReadonlySet<string> = new Set(["succeeded", "failed", "cancelled"]);

export function isOver({ state }: Pick<ExperimentSummary, "state">): boolean {
  return OVER.has(state);
}

export function ExperimentList(props: { readonly experiments: readonly ExperimentSummary[] }) {
  const { experiments } = props;
  const active = experiments.filter((one) => !isOver(one)).toReversed();
  const over = experiments
    .filter(isOver)
    .toSorted((a, b) => (b.finishedUnixMs ?? 0) - (a.finishedUnixMs ?? 0));
  return (
    <>
      <section class="card" aria-labelledby="experiments">
        <h2 id="experiments">
          Experiments <Count of={active.length} />
        </h2>
        {experiments.length === 0 ? <NoExperiments /> : null}
        {active.length > 0 ? (
          <Limited caption="Experiments" columns={ACTIVE} rows={active} />
        ) : experiments.length > 0 ? (
          <Empty title="Nothing runs and nothing waits." command={SUBMIT} />
        ) : null}
      </section>
      {over.length > 0 ? (
        <section class="card" aria-labelledby="over">
          <h2 id="over">
            Finished <Count of={over.length} />
          </h2>
          <Limited caption="Finished experiments" columns={FINISHED} rows={over} />
        </section>
      ) : null}
    </>
  );
}

export function Count({ of }: { readonly of: number }) {
  return <span class="count">{of}</span>;
}

const SUBMIT =
  "npx coordinator submit simclr_resnet18_2xb128-coslr-100e_cifar10 --set data.root=/data/cifar10";

function NoExperiments() {
  return (
    <Empty title="No experiments yet." command={SUBMIT}>
      <p>Submit one; it starts as soon as there are workers enough for it:</p>
    </Empty>
  );
}

function Limited(props: {
  readonly caption: string;
  readonly columns: readonly Column<ExperimentSummary>[];
  readonly rows: readonly ExperimentSummary[];
}) {
  const { caption, columns, rows } = props;
  const [isWhole, setWhole] = useState(false);
  const shown = isWhole ? rows : rows.slice(0, SHOWN_MAX);
  return (
    <>
      <DataTable caption={caption} columns={columns} rows={shown} keyOf={({ id }) => id} />
      {shown.length < rows.length ? (
        <button type="button" class="more" onClick={() => setWhole(true)}>
          Show all {rows.length}
        </button>
      ) : null}
    </>
  );
}

const NAME: Column<ExperimentSummary> = {
  label: "Experiment",
  isTitle: true,
  cell: ({ id, name }) => (
    <>
      <a class="name" href={experimentHref(id)}>
        {id}
      </a>
      <span class="sub">{name}</span>
    </>
  ),
};
const STATE: Column<ExperimentSummary> = {
  label: "State",
  cell: ({ state, stage }) => (
    <>
      <StateBadge state={state} />
      <span class="sub">{stage}</span>
    </>
  ),
};

const ACTIVE: readonly Column<ExperimentSummary>[] = [
  NAME,
  STATE,
  { label: "Progress", cell: (one) => <ProgressCell one={one} /> },
  {
    label: "Loss",
    isNumber: true,
    cell: ({ progress }) => (progress ? formatFigure(progress.loss) : undefined),
  },
  { label: "Accuracy", isNumber: true, cell: accuracyOf },
  {
    label: "Images/s",
    isNumber: true,
    cell: ({ progress, state }) =>
      progress && state === "running" ? formatFigure(progress.imagesPerSecond) : undefined,
  },
  {
    label: "ETA",
    isNumber: true,
    cell: ({ progress, state }) =>
      progress && state === "running" ? formatDuration(progress.etaSeconds) : undefined,
  },
];

const FINISHED: readonly Column<ExperimentSummary>[] = [
  NAME,
  STATE,
  {
    label: "Top-1",
    isNumber: true,
    cell: ({ top1 }) => (top1 === undefined ? undefined : percent(top1)),
  },
  {
    label: "Took",
    isNumber: true,
    cell: ({ startedUnixMs, finishedUnixMs }) =>
      startedUnixMs && finishedUnixMs
        ? formatDuration((finishedUnixMs - startedUnixMs) / 1e3)
        : undefined,
  },
  {
    label: "Finished",
    isNumber: true,
    cell: ({ finishedUnixMs }) => (finishedUnixMs ? <Ago unixMs={finishedUnixMs} /> : undefined),
  },
];

/** The best word on quality that there is: of the classifier, else of the features. */
function accuracyOf({ progress }: ExperimentSummary): string | undefined {
  const { top1, probeTop1, knn } = progress ?? {};
  if (top1 !== undefined) return `${percent(top1)} top-1`;
  const [nearest] = knn ?? [];
  if (nearest) return `${percent(nearest.top1)} k-NN`;
  return probeTop1 === undefined ? undefined : `${percent(probeTop1)} probe`;
}

export function percent(value: number): string {
  return `${value.toFixed(1)} %`;
}
