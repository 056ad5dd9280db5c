/** The whole fleet at a glance. */

import { formatFigure } from "../../proto/cli/format.ts";
import type { FleetView } from "../http/fleet-view.ts";
import { ExperimentList } from "./experiment-list.tsx";
import { QueueCard } from "./queue-card.tsx";
import { WorkerList } from "./worker-list.tsx";

export function Overview({ fleet }: { readonly fleet: FleetView }) {
  const { experiments, workers, queue } = fleet;
  return (
    <>
      <h1 tabIndex={-1}>Fleet</h1>
      <Figures fleet={fleet} />
      <div class="columns">
        <div class="wide">
          <ExperimentList experiments={experiments} />
        </div>
        <QueueCard experiments={experiments} queue={queue} />
      </div>
      <WorkerList workers={workers} experiments={experiments} />
    </>
  );
}

function Figures({ fleet: { experiments, workers } }: { readonly fleet: FleetView }) {
  const running = experiments.filter(({ state }) => state === "running");
  const rate = running.reduce((sum, { progress }) => sum + (progress?.imagesPerSecond ?? 0), 0);
  const count = (state: string): number => workers.filter((one) => one.state === state).length;
  const waiting = experiments.filter(({ state }) => state === "waiting").length;
  const lost = count("lost");
  const figures = [
    { name: "Running", value: String(running.length), more: `${waiting} waiting` },
    {
      name: "Workers busy",
      value: `${count("busy")} / ${count("busy") + count("idle")}`,
      more: lost > 0 ? `${lost} lost` : "none lost",
    },
    { name: "Images/s", value: rate > 0 ? formatFigure(rate) : "0", more: "over all experiments" },
    {
      name: "Finished",
      value: String(experiments.filter(({ state }) => state === "succeeded").length),
      more: `${experiments.filter(({ state }) => state === "failed").length} failed`,
    },
  ];
  return (
    <dl class="figures">
      {figures.map(({ name, value, more }) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>
            {value}
            <span class="sub">{more}</span>
          </dd>
        </div>
      ))}
    </dl>
  );
}
