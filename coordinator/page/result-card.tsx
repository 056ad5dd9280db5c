/** What the finished stages of an experiment have come to, and the recipe that it was made by. */

import { formatCount, formatShortFigure } from "../../proto/cli/format.ts";
import type { ExperimentDetail } from "../http/fleet-view.ts";

export function ResultCard({ results }: Pick<ExperimentDetail, "results">) {
  const stages = Object.entries(results);
  if (stages.length === 0) return null;
  return (
    <section class="card" aria-labelledby="results">
      <h2 id="results">Results</h2>
      {stages.map(([stage, result]) => (
        <div key={stage}>
          <h3>{stage}</h3>
          <dl class="facts">
            {Object.entries(result)
              .filter(([, value]) => typeof value === "number" || typeof value === "string")
              .map(([name, value]) => (
                <div key={name}>
                  <dt>{name.replaceAll("_", " ")}</dt>
                  <dd>{typeof value === "number" ? formatNumber(value) : String(value)}</dd>
                </div>
              ))}
          </dl>
        </div>
      ))}
    </section>
  );
}

export function RecipeCard({ recipe }: Pick<ExperimentDetail, "recipe">) {
  return (
    <section class="card" aria-labelledby="recipe">
      <h2 id="recipe">Recipe</h2>
      <details>
        <summary>As it was resolved</summary>
        <pre class="recipe">{JSON.stringify(recipe, undefined, 2)}</pre>
      </details>
    </section>
  );
}

function formatNumber(value: number): string {
  return Number.isInteger(value) ? formatCount(value) : formatShortFigure(value);
}
