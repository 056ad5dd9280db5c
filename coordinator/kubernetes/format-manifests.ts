/** The objects of a recipe's workers as YAML, with comments for whoever reads them. */

import { stringify } from "yaml";
import { workerJobName } from "./object-names.ts";
import { type ManifestOptions, renderManifests } from "./render-manifests.ts";

/** @throws {FleetError} RECIPE_INVALID when the recipe's data can be mounted nowhere */
export function formatManifests(options: ManifestOptions): string {
  const documents = renderManifests(options).map((manifest) =>
    stringify(manifest, { aliasDuplicateObjects: false, lineWidth: 0 }),
  );
  return `${describe(options)}${documents.join("---\n")}`;
}

function describe({ recipe, name, namespace, overlays }: ManifestOptions): string {
  const sizes = recipe.stages.map((stage) => {
    const { workers, batchPerWorker } = recipe[stage];
    return `${stage} on ${workers} x ${batchPerWorker}`;
  });
  const head = `# ${recipe.name}: ${sizes.join(", then ")}\n`;
  const [first, second] = recipe.stages;
  if (second === undefined || overlays.some((each) => each !== "single-node")) return head;
  const job = workerJobName(name, second);
  return [
    head,
    `# The Job of ${second} holds nothing until it is resumed, after that of ${first}:\n`,
    `# kubectl -n ${namespace} patch job ${job} -p '{"spec":{"suspend":false}}'\n`,
  ].join("");
}
