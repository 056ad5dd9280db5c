/**
 * What `kubectl apply` needs so that a recipe's workers run: a Job per stage, or one JobSet of
 * both. The linear stage must not hold GPUs while the other trains: as a Job of its own it is
 * created suspended, in a JobSet it depends on the other, and with Kueue all wait for their quota.
 */

import type { V1Job, V1PodDisruptionBudget } from "@kubernetes/client-node";
import type { Recipe, StageName } from "../../proto/recipe.ts";
import { worldSizes } from "../../proto/world-sizes.ts";
import { LOCAL_QUEUE, objectName, WORKER_LABELS, workerJobName } from "./object-names.ts";
import { renderWorkerJob, type WorkerJobOptions } from "./worker-job.ts";
import {
  JOB_SET_LABEL,
  type JobSet,
  REPLICATED_JOB_LABEL,
  renderJobSet,
} from "./worker-job-set.ts";

/** Ways to run the same workers; all of them go together. */
export const OVERLAYS = ["single-node", "jobset", "kueue"] as const;
export type Overlay = (typeof OVERLAYS)[number];

export type ManifestOptions = Omit<
  WorkerJobOptions,
  "stage" | "workers" | "device" | "isSuspended"
> & { readonly overlays: readonly Overlay[] };

export type Manifest = V1Job | JobSet | V1PodDisruptionBudget;

const QUEUE_LABEL = "kueue.x-k8s.io/queue-name";
const JOB_LABEL = "batch.kubernetes.io/job-name";

/** @throws {FleetError} RECIPE_INVALID when the recipe's data can be mounted nowhere */
export function renderManifests(options: ManifestOptions): readonly Manifest[] {
  const { recipe, namespace, overlays } = options;
  const stem = objectName(options.name);
  const jobs = recipe.stages.map((stage) => [stage, renderJob(stage, options)] as const);
  const isSet = overlays.includes("jobset");
  const workloads = isSet
    ? [renderJobSet({ name: stem, namespace, jobs })]
    : jobs.map(([, job]) => job);
  const budgets = recipe.stages.flatMap((stage) => {
    const name = workerJobName(stem, stage);
    const matchLabels = isSet
      ? { [JOB_SET_LABEL]: stem, [REPLICATED_JOB_LABEL]: stage }
      : { [JOB_LABEL]: name };
    return renderBudget({ recipe, stage, name, namespace, matchLabels });
  });
  const queued = overlays.includes("kueue") ? workloads.map(queue) : workloads;
  return [...queued, ...budgets];
}

function renderJob(stage: StageName, options: ManifestOptions): V1Job {
  const { overlays, recipe, ...rest } = options;
  const isAlone = !overlays.includes("jobset") && !overlays.includes("kueue");
  return renderWorkerJob({
    ...rest,
    recipe,
    stage,
    name: workerJobName(options.name, stage),
    device: overlays.includes("single-node") ? "cpu" : "gpu",
    isSuspended: isAlone && stage !== recipe.stages[0],
  });
}

/** Kueue starts what is suspended and has its label, when there is quota for all of it. */
function queue<T extends V1Job | JobSet>(workload: T): T {
  const { metadata, spec } = workload;
  const labels = { [QUEUE_LABEL]: LOCAL_QUEUE, ...metadata?.labels };
  return { ...workload, metadata: { ...metadata, labels }, spec: { ...spec, suspend: true } };
}

/**
 * A machine that is emptied sends its workers away one at a time: each finishes its step, and the
 * gang waits for its successor, or goes on with as few as the recipe allows.
 */
function renderBudget(options: {
  readonly recipe: Recipe;
  readonly stage: StageName;
  readonly name: string;
  readonly namespace: string;
  readonly matchLabels: Readonly<Record<string, string>>;
}): readonly V1PodDisruptionBudget[] {
  const { recipe, stage, name, namespace, matchLabels } = options;
  const sizes = worldSizes(recipe[stage].workers, recipe.elastic);
  const minAvailable = Math.min((sizes[0] ?? 1) - 1, sizes.at(-1) ?? 1);
  if (minAvailable < 1) return [];
  return [
    {
      apiVersion: "policy/v1",
      kind: "PodDisruptionBudget",
      metadata: { name, namespace, labels: { ...WORKER_LABELS } },
      spec: {
        minAvailable,
        // A worker that does not come up keeps nobody's machine.
        unhealthyPodEvictionPolicy: "AlwaysAllow",
        selector: { matchLabels: { ...matchLabels } },
      },
    },
  ];
}
