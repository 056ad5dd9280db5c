/** The live curves of an experiment, a stage at a time. */

import { useState } from "preact/hooks";
import type { StageName } from "../../proto/recipe.ts";
import type { Curves, StageCurves } from "../experiment/curves.ts";
import { Chart, type Line } from "./chart.tsx";

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

function StageCharts({
  curves: { training, quality, lossBound },
}: {
  readonly curves: StageCurves;
}) {
  const steps = training.map(({ step }) => step);
  const loss: Line[] = [
    { name: "loss", colour: "--line-1", values: training.map((point) => point.loss) },
    ...(lossBound === undefined
      ? []
      : [
          {
            name: "ln(2N − 1)",
            colour: "--line-3",
            values: training.map(() => lossBound),
            isDashed: true,
          },
        ]),
  ];
  const lr = [{ name: "lr", colour: "--line-2", values: training.map((point) => point.lr) }];
  return (
    <div class="charts">
      <Chart title="Loss" steps={steps} lines={loss} />
      {quality.length > 0 ? <QualityChart quality={quality} /> : null}
      <Chart title="Learning rate" steps={steps} lines={lr} />
    </div>
  );
}

const ACCURACIES = [
  ["top1", "top-1", "--line-1"],
  ["knn", "k-NN", "--line-2"],
  ["probe", "probe", "--line-3"],
] as const;

function QualityChart({ quality }: { readonly quality: StageCurves["quality"] }) {
  const steps = quality.map(({ step }) => step);
  const lines = ACCURACIES.flatMap(([key, name, colour]): Line[] => {
    const values = quality.map((point) => point[key] ?? null);
    const isThere = values.some((value) => value !== null);
    return isThere ? [{ name, colour, values, hasDots: true }] : [];
  });
  return <Chart title="Top-1 accuracy" unit=" %" steps={steps} lines={lines} />;
}
