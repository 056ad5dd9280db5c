/** What `watch` shows of an experiment: a line for a log, or a bar for a terminal. Pure. */

import { formatCount, formatDuration, formatFigure } from "../../proto/cli/format.ts";
import { progressBar } from "../../proto/cli/progress-bar.ts";
import type { Straggler } from "../../proto/gen/coordinator.ts";
import type { ExperimentView, ProgressView } from "../control/experiment-view.ts";

/** State, stage and reason, for a change of state. */
export function formatState(view: ExperimentView): string {
  const reason = view.reason ? `: ${view.reason}` : "";
  return `${view.id} ${view.state} (${view.stage}, generation ${view.generation})${reason}`;
}

/** One report of progress, for a log. */
export function formatProgress(view: ExperimentView, progress: ProgressView): string {
  return `${view.id} ${progress.stage} ${figures(progress).join("  ")}`;
}

/**
 * One report of progress as a bar that fits into `columns`; figures that do not fit are left out.
 */
export function formatBar(view: ExperimentView, progress: ProgressView, columns: number): string {
  return progressBar({
    head: progress.stage,
    share: progress.stepsTotal > 0 ? Math.min(1, progress.step / progress.stepsTotal) : 0,
    figures: figures(progress),
    columns,
    end: view.state === "running" ? "" : `  ${view.state}`,
  });
}

/** The most important figures first. */
function figures(progress: ProgressView): string[] {
  const { top1, top5, skippedImages, allReduceSeconds, allReduceHidden } = progress;
  const [nearest, ...otherNearest] = progress.knn.map(formatKnn);
  const { probeTop1 } = progress;
  return [
    `epoch ${progress.epoch.toFixed(2)}/${progress.epochsTotal}`,
    `step ${progress.step}/${progress.stepsTotal}`,
    `loss ${formatFigure(progress.loss)}${progress.lossAtBound ? " NEAR ITS BOUND" : ""}`,
    ...(nearest === undefined ? [] : [nearest]),
    ...(top1 === undefined ? [] : [`top-1 ${top1.toFixed(2)} %`]),
    `ETA ${formatDuration(progress.etaSeconds)}`,
    `${formatFigure(progress.imagesPerSecond)} images/s`,
    `lr ${formatFigure(progress.lr)}`,
    ...(probeTop1 === undefined ? [] : [`probe ${probeTop1.toFixed(2)} %`]),
    ...otherNearest,
    ...(top5 === undefined ? [] : [`top-5 ${top5.toFixed(2)} %`]),
    ...formatAllReduce(allReduceSeconds, allReduceHidden),
    ...(skippedImages === 0 ? [] : [`${formatCount(skippedImages)} images skipped`]),
  ];
}

function formatKnn({ neighbours, top1 }: ProgressView["knn"][number]): string {
  return `${neighbours}-NN ${top1.toFixed(2)} %`;
}

/** What it means that a loss stays near its bound; undefined while it does not. */
export function boundWarning(progress: ProgressView): string | undefined {
  const { lossAtBound, lossBound } = progress;
  if (!lossAtBound || lossBound === undefined) return undefined;
  return (
    `the loss stays near ln(2N - 1) = ${formatFigure(lossBound)}, where all pairs look alike: ` +
    "the embeddings have collapsed or nothing has been learned yet; look at the learning rate, " +
    "the temperature and the augmentation"
  );
}

/** A rank that is slower than the others, and where its time goes. */
export function formatStraggler(straggler: Straggler): string {
  const { rank, workerName, ratio, phase } = straggler;
  return `rank ${rank} (${workerName}) takes ${ratio.toFixed(1)} x as long as the others: ${phase}`;
}

/** Time of a step's all-reduces, and how much of it the rest of the step has covered. */
function formatAllReduce(seconds: number | undefined, hidden: number | undefined): string[] {
  if (seconds === undefined || hidden === undefined) return [];
  return [`all-reduce ${Number(seconds.toPrecision(2))} s, ${Math.round(100 * hidden)} % hidden`];
}
