/** The way of an experiment through its stages, and where on it it is. */

import type { ExperimentDetail } from "../http/fleet-view.ts";
import { Bar } from "./progress-cell.tsx";

type Detail = Pick<ExperimentDetail, "experiment" | "recipe">;

export function StageTrack({ experiment, recipe }: Detail) {
  const stages = stagesOf(recipe, experiment.stage);
  const present = stages.indexOf(experiment.stage);
  const isDone = (index: number): boolean =>
    index < present || (index === present && experiment.state === "succeeded");
  return (
    <ol class="track" aria-label="Stages">
      {stages.map((stage, index) => (
        <li key={stage} class={isDone(index) ? "done" : index === present ? "present" : "ahead"}>
          <span class="stage">{stage}</span>
          <StageProgress
            experiment={experiment}
            place={isDone(index) ? "done" : index === present ? "present" : "ahead"}
          />
        </li>
      ))}
    </ol>
  );
}

function StageProgress(props: {
  readonly experiment: ExperimentDetail["experiment"];
  readonly place: "done" | "present" | "ahead";
}) {
  const { progress, state, stage } = props.experiment;
  if (props.place === "done") return <Bar share={1} label="done" text="done" />;
  if (props.place === "ahead") return <span class="quiet">not begun</span>;
  if (!progress) return <span class="quiet">{state}</span>;
  const share = progress.stepsTotal > 0 ? Math.min(1, progress.step / progress.stepsTotal) : 0;
  const text = `step ${progress.step} of ${progress.stepsTotal}`;
  return <Bar share={share} label={stage} text={text} />;
}

function stagesOf(recipe: unknown, present: string): readonly string[] {
  const { stages } = recipe as { readonly stages?: unknown };
  const isList = Array.isArray(stages) && stages.includes(present);
  return isList ? stages.filter((stage) => typeof stage === "string") : [present];
}
