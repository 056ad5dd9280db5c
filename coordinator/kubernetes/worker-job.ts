/**
 * The workers of one stage, as an Indexed Job: a pod per worker, each with a place and a name of
 * its own, and each replaced by itself when it is lost. Pure: everything is an argument.
 *
 *   const job = renderWorkerJob({
 *     recipe,
 *     stage: "pretrain",
 *     name: workerJobName(experimentId, "pretrain"),
 *     namespace: "simclr",
 *     experimentId,
 *     template: parseJobTemplate(text, file), // what --template says; job-template.ts
 *   });
 *   await new BatchV1Api(...).createNamespacedJob({ namespace: "simclr", body: job });
 */

import type { V1Job, V1JobSpec } from "@kubernetes/client-node";
import { worldSizes } from "../../proto/world-sizes.ts";
import { type JobTemplate, mergeTemplate } from "./merge-template.ts";
import { EXPERIMENT_LABEL, labelValue, STAGE_LABEL, WORKER_LABELS } from "./object-names.ts";
import { podFailurePolicy } from "./pod-failure-policy.ts";
import { WORKER_CONTAINER, type WorkerPodOptions, workerPod } from "./worker-pod.ts";

export interface WorkerJobOptions extends WorkerPodOptions {
  /** Of the Job; see `workerJobName`. */
  readonly name: string;
  readonly namespace: string;
  /** How many there are to be; as many as the stage may have when absent. */
  readonly workers?: number;
  /** Created, but not started. */
  readonly isSuspended?: boolean;
  /** What an administrator wants otherwise. */
  readonly template?: JobTemplate;
}

/** Failures of one worker that are no preemptions, after which it is not started again. */
const BACKOFF_LIMIT_PER_INDEX = 10;
/** A day, for whoever wants to see why it failed. */
const TTL_SECONDS = 86_400;

/** @throws {FleetError} RECIPE_INVALID when the recipe's data can be mounted nowhere */
export function renderWorkerJob(options: WorkerJobOptions): V1Job {
  const { recipe, stage, name, namespace, experimentId, template } = options;
  const labels = {
    ...WORKER_LABELS,
    [STAGE_LABEL]: stage,
    ...(experimentId === undefined ? {} : { [EXPERIMENT_LABEL]: labelValue(experimentId) }),
  };
  const job: V1Job = {
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: { name, namespace, labels, annotations: { "simclr-fleet/recipe": recipe.name } },
    spec: {
      ...renderJobSpec(options),
      template: { metadata: { labels }, spec: workerPod(options) },
    },
  };
  return template === undefined ? job : mergeTemplate(job, template);
}

function renderJobSpec(options: WorkerJobOptions): Omit<V1JobSpec, "template"> {
  const { recipe, stage, isSuspended } = options;
  const workers = options.workers ?? worldSizes(recipe[stage].workers, recipe.elastic)[0] ?? 1;
  return {
    ...(isSuspended ? { suspend: true } : {}),
    completionMode: "Indexed",
    completions: workers,
    parallelism: workers,
    backoffLimitPerIndex: BACKOFF_LIMIT_PER_INDEX,
    // A gang's memory is not to be there twice: who drains ends first.
    podReplacementPolicy: "Failed",
    podFailurePolicy: podFailurePolicy(WORKER_CONTAINER),
    ttlSecondsAfterFinished: TTL_SECONDS,
  };
}
