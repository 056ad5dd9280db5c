/** The workers of the fleet: what each is, what it does, and when it was last heard of. */

import { useState } from "preact/hooks";
import { formatFigure } from "../../proto/cli/format.ts";
import type { ExperimentSummary, FleetWorker } from "../http/fleet-view.ts";
import { type Column, DataTable } from "./data-table.tsx";
import { Empty } from "./empty.tsx";
import { Count } from "./experiment-list.tsx";
import { experimentHref } from "./route.ts";
import { StateBadge } from "./state-badge.tsx";
import { Ago } from "./time-text.tsx";

const SHOWN_MAX = 50;
const ORDER: readonly string[] = ["busy", "idle", "lost"];

interface Row {
  readonly worker: FleetWorker;
  /** Its share of what its gang does: the ranks of a gang do the same. */
  readonly imagesPerSecond?: number;
}

export function WorkerList(props: {
  readonly workers: readonly FleetWorker[];
  readonly experiments: readonly ExperimentSummary[];
}) {
  const { workers, experiments } = props;
  const [isWhole, setWhole] = useState(false);
  const sorted = workers.toSorted(
    (a, b) =>
      ORDER.indexOf(a.state) - ORDER.indexOf(b.state) ||
      (a.experiment ?? "").localeCompare(b.experiment ?? "") ||
      (a.rank ?? 0) - (b.rank ?? 0) ||
      a.name.localeCompare(b.name),
  );
  const shares = new Map(
    experiments.flatMap(({ id, state, progress, workers: gang }) =>
      state === "running" && progress ? [[id, progress.imagesPerSecond / gang.length]] : [],
    ),
  );
  const shown = (isWhole ? sorted : sorted.slice(0, SHOWN_MAX)).map((worker): Row => {
    const imagesPerSecond = shares.get(worker.experiment ?? "");
    return { worker, ...(imagesPerSecond === undefined ? {} : { imagesPerSecond }) };
  });
  return (
    <section class="card" aria-labelledby="workers">
      <h2 id="workers">
        Workers <Count of={workers.length} />
      </h2>
      {workers.length === 0 ? <NoWorkers /> : null}
      {workers.length > 0 ? (
        <DataTable caption="Workers" columns={COLUMNS} rows={shown} keyOf={keyOf} />
      ) : null}
      {shown.length < sorted.length ? (
        <button type="button" class="more" onClick={() => setWhole(true)}>
          Show all {sorted.length}
        </button>
      ) : null}
    </section>
  );
}

const START = "npx worker start --coordinator HOST:50051 --work-dir /shared/work_dirs";

function NoWorkers() {
  return (
    <Empty title="No workers." command={START}>
      <p>Start one on every GPU; all of them need the same work folder:</p>
    </Empty>
  );
}

export function workerState({ state, draining }: FleetWorker): string {
  return draining ? "draining" : state;
}

/** As short as a step is; undefined while it is not known. */
export function stepTime(seconds: number | undefined): string | undefined {
  if (seconds === undefined) return undefined;
  if (seconds < 1e-4) return "< 0.1 ms";
  return seconds < 1 ? `${(1_000 * seconds).toFixed(1)} ms` : `${seconds.toFixed(2)} s`;
}

function memory(bytes: number): string {
  const mebibytes = bytes / 2 ** 20;
  return mebibytes < 1_000
    ? `${Math.round(mebibytes)} MiB`
    : `${(mebibytes / 1_024).toFixed(1)} GiB`;
}

/** Some devices tell of their threads themselves. */
function deviceOf({ device, threads }: FleetWorker): string {
  if (device.includes("thread")) return device;
  return `${device}, ${threads} ${threads === 1 ? "thread" : "threads"}`;
}

function keyOf({ worker }: Row): string {
  return worker.id;
}

const COLUMNS: readonly Column<Row>[] = [
  {
    label: "Worker",
    isTitle: true,
    cell: ({ worker: { name, peerAddress } }) => (
      <>
        <span class="name">{name}</span>
        <span class="sub">{peerAddress}</span>
      </>
    ),
  },
  { label: "State", cell: ({ worker }) => <StateBadge state={workerState(worker)} /> },
  {
    label: "Works on",
    cell: ({ worker: { experiment, rank } }) =>
      experiment ? (
        <>
          <a href={experimentHref(experiment)}>{experiment}</a>
          <span class="sub">{rank === undefined ? "no rank" : `rank ${rank}`}</span>
        </>
      ) : undefined,
  },
  {
    label: "Engine",
    cell: ({ worker }) => (
      <>
        <span>{worker.engine}</span>
        <span class="sub">{deviceOf(worker)}</span>
      </>
    ),
  },
  {
    label: "Images/s",
    isNumber: true,
    cell: ({ imagesPerSecond: share }) => (share === undefined ? undefined : formatFigure(share)),
  },
  { label: "Step time", isNumber: true, cell: ({ worker }) => stepTime(worker.ownStepSeconds) },
  {
    label: "Memory",
    isNumber: true,
    cell: ({ worker: { rssBytes } }) => (rssBytes > 0 ? memory(rssBytes) : undefined),
  },
  {
    label: "Last heard",
    isNumber: true,
    cell: ({ worker: { heardUnixMs } }) => <Ago unixMs={heardUnixMs} />,
  },
];
