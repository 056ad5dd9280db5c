/** The files of this folder that follow from recipes and from the alerts of Prometheus. */

import { parse, stringify } from "yaml";
import { formatManifests } from "../../coordinator/kubernetes/format-manifests.ts";
import { NAMESPACE } from "../../coordinator/kubernetes/object-names.ts";
import type { Overlay } from "../../coordinator/kubernetes/render-manifests.ts";
import { parseRecipe } from "../../proto/recipe.ts";
import { findRecipe } from "../../proto/recipes/registry.ts";

const IMAGENET = "simclr_resnet50_16xb256-coslr-200e_in1k";

/** @param alerts text of deploy/prometheus/alerts.yml */
export function generatedFiles(alerts: string): ReadonlyMap<string, string> {
  return new Map([
    ["base/workers.yaml", workers(IMAGENET, [])],
    ["overlays/jobset/workers.yaml", workers(IMAGENET, ["jobset"])],
    ["overlays/kueue/workers.yaml", workers(IMAGENET, ["kueue"])],
    ["overlays/single-node/workers.yaml", workers("demo", ["single-node"])],
    ["overlays/monitoring/prometheus-rule.yaml", prometheusRule(alerts)],
  ]);
}

/** As `coordinator manifests RECIPE --overlay NAME` prints them. */
function workers(recipe: string, overlays: readonly Overlay[]): string {
  const options = { recipe: parseRecipe(findRecipe(recipe)), name: recipe, namespace: NAMESPACE };
  return `${MADE}${formatManifests({ ...options, overlays })}`;
}

function prometheusRule(alerts: string): string {
  const rule = {
    apiVersion: "monitoring.coreos.com/v1",
    kind: "PrometheusRule",
    metadata: { name: "simclr-fleet", labels: { "app.kubernetes.io/part-of": "simclr-fleet" } },
    spec: parse(alerts) as unknown,
  };
  return `${MADE}${stringify(rule, { lineWidth: 0 })}`;
}

const MADE = "# Made by `npm run manifests`.\n";
