/** How far a stage has come. */

import type { ExperimentSummary } from "../http/fleet-view.ts";

export function ProgressCell({ one }: { readonly one: ExperimentSummary }) {
  const { progress, state } = one;
  if (state === "succeeded") return <Bar share={1} label={`${one.name}: all stages`} text="done" />;
  if (!progress) return <span class="sub">{one.reason || "begins"}</span>;
  const share = progress.stepsTotal > 0 ? Math.min(1, progress.step / progress.stepsTotal) : 0;
  const epochs = `epoch ${progress.epoch.toFixed(1)} of ${progress.epochsTotal}`;
  return <Bar share={share} label={`${one.name}: ${progress.stage}`} text={epochs} />;
}

export function Bar(props: {
  readonly share: number;
  readonly label: string;
  readonly text: string;
}) {
  const percent = Math.floor(100 * props.share);
  return (
    <div class="progress">
      <progress max={100} value={percent} aria-label={props.label} />
      <span class="percent">{percent} %</span>
      <span class="quiet">{props.text}</span>
    </div>
  );
}
