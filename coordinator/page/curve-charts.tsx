/** The live curves of an experiment, a stage at a time. */

import { useMemo, useState } from "preact/hooks";
import type { StageName } from "../../proto/recipe.ts";
import type { Curves, StageCurves } from "../experiment/curves.ts";
import { Chart, type Line } from "./chart.tsx";

/** The share that the line through the loss keeps from point to point. */
const SMOOTHING = 0.9;

export function CurveCharts(props: { readonly curves: Curves; readonly present: StageName }) {
  const { curves, present } = props;
  const [chosen, choose] = useState<StageName>();
  const stages = (["pretrain", "linear"] as const).filter((stage) => curves[stage]);
  const fallback = stages.includes(present) ? present : stages.at(-1);
  const stage = chosen && curves[chosen] ? chosen : fallback;
  const shown = stage && curves[stage];
  return (
    <section class="card" aria-labelledby="curves">
      <header>
        <h2 id="curves">Curves</h2>
        {stages.length > 1 ? (
          <fieldset class="choice">
            <legend class="hidden">Stage</legend>
            {stages.map((one) => (
              <label key={one}>
                <input
                  type="radio"
                  name="stage"
                  checked={one === stage}
                  onChange={() => choose(one)}
                />
                <span>{one}</span>
              </label>
            ))}
          </fieldset>
        ) : null}
      </header>
      {shown && stage ? (
        <StageCharts key={stage} curves={shown} />
      ) : (
        <p class="quiet">Curves begin with the first step.</p>
      )}
    </section>
  );
}

function StageCharts(props: { readonly curves: StageCurves }) {
  const { training, quality, lossBound } = props.curves;
  const steps = useMemo(() => training.map(({ step }) => step), [training]);
  const loss = useMemo(() => lossLines(training, lossBound), [training, lossBound]);
  const lr = useMemo(() => {
    return [{ name: "lr", colour: "--line-2", values: training.map((point) => point.lr) }];
  }, [training]);
  return (
    <div class="charts">
      <Chart title="Loss" steps={steps} lines={loss} />
      {quality.length > 0 ? <QualityChart quality={quality} /> : null}
      <Chart title="Learning rate" steps={steps} lines={lr} />
    </div>
  );
}

function lossLines(training: StageCurves["training"], bound: number | undefined): readonly Line[] {
  const values = training.map(({ loss }) => loss);
  const raw: Line = { name: "loss", colour: "--line-1", values, isFaint: true };
  const smooth: Line = { name: "smoothed", colour: "--line-1", values: smoothed(values) };
  if (bound === undefined) return [raw, smooth];
  const limit = { name: "ln(2N − 1)", colour: "--line-3", values: values.map(() => bound) };
  return [raw, smooth, { ...limit, isDashed: true }];
}

/** A running mean, which has no later points to look at; at first of those that there are. */
function smoothed(values: readonly number[]): readonly number[] {
  let sum = 0;
  let weight = 0;
  return values.map((value) => {
    sum = SMOOTHING * sum + (1 - SMOOTHING) * value;
    weight = SMOOTHING * weight + (1 - SMOOTHING);
    return sum / weight;
  });
}

const ACCURACIES = [
  ["top1", "top-1", "--line-1"],
  ["knn", "k-NN", "--line-2"],
  ["probe", "probe", "--line-3"],
] as const;

function QualityChart({ quality }: Pick<StageCurves, "quality">) {
  const steps = useMemo(() => quality.map(({ step }) => step), [quality]);
  const lines = useMemo(() => accuracyLines(quality), [quality]);
  return <Chart title="Top-1 accuracy" unit=" %" steps={steps} lines={lines} />;
}

function accuracyLines(quality: StageCurves["quality"]): readonly Line[] {
  return ACCURACIES.flatMap(([key, name, colour]): Line[] => {
    const values = quality.map((point) => point[key] ?? null);
    const isThere = values.some((value) => value !== null);
    return isThere ? [{ name, colour, values, hasDots: true }] : [];
  });
}
