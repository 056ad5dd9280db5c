/** The ranks of an experiment's gang, with what a step takes each of them. */

import type { ExperimentDetail, FleetWorker } from "../http/fleet-view.ts";
import { type Column, DataTable } from "./data-table.tsx";
import { Count, isOver } from "./experiment-list.tsx";
import { StateBadge } from "./state-badge.tsx";
import { Ago } from "./time-text.tsx";
import { stepTime, workerState } from "./worker-list.tsx";

type ShownExperiment = ExperimentDetail["experiment"];

interface Rank {
  readonly rank: number;
  readonly id: string;
  readonly worker?: FleetWorker;
  readonly straggler?: ShownExperiment["stragglers"][number];
}

export function GangCard(props: {
  readonly experiment: ShownExperiment;
  readonly workers: readonly FleetWorker[];
}) {
  const { experiment, workers } = props;
  const ranks = experiment.workers.map((id, rank): Rank => {
    const worker = workers.find((one) => one.id === id);
    const straggler = experiment.stragglers.find((one) => one.rank === rank);
    return { rank, id, ...(worker ? { worker } : {}), ...(straggler ? { straggler } : {}) };
  });
  const nothing = isOver(experiment) ? "It is over." : experiment.reason || "It has no gang now.";
  return (
    <section class="card" aria-labelledby="gang">
      <h2 id="gang">
        Gang <Count of={ranks.length} />
      </h2>
      {ranks.length === 0 ? <p class="quiet">No workers hold it. {nothing}</p> : null}
      {ranks.length > 0 ? (
        <DataTable caption="Gang" columns={COLUMNS} rows={ranks} keyOf={({ id }) => id} />
      ) : null}
    </section>
  );
}

const COLUMNS: readonly Column<Rank>[] = [
  {
    label: "Rank",
    isTitle: true,
    cell: ({ rank }) => (
      <span class="name">
        <span class="on-card">Rank </span>
        {rank}
      </span>
    ),
  },
  {
    label: "Worker",
    cell: ({ worker, id }) => (
      <>
        <span>{worker?.name ?? id}</span>
        <span class="sub">{worker?.engine ?? ""}</span>
      </>
    ),
  },
  {
    label: "State",
    cell: ({ worker, straggler }) => (
      <>
        {worker ? <StateBadge state={workerState(worker)} /> : null}
        {straggler ? (
          <span class="sub slow">
            {straggler.ratio.toFixed(1)} × slower: {straggler.phase}
          </span>
        ) : null}
      </>
    ),
  },
  { label: "Step time", isNumber: true, cell: ({ worker }) => stepTime(worker?.ownStepSeconds) },
  { label: "Of it, data", isNumber: true, cell: ({ worker }) => stepTime(worker?.dataSeconds) },
  {
    label: "Last heard",
    isNumber: true,
    cell: ({ worker }) => (worker ? <Ago unixMs={worker.heardUnixMs} /> : undefined),
  },
];
