/** The Jobs of all stages as one JobSet (jobset.sigs.k8s.io), each stage after the one before. */

import type { V1Job, V1JobTemplateSpec, V1ObjectMeta } from "@kubernetes/client-node";
import type { StageName } from "../../proto/recipe.ts";
import { WORKER_LABELS, WORKERS_SERVICE } from "./object-names.ts";

/** The part of a JobSet that is used here. */
export interface JobSet {
  readonly apiVersion: "jobset.x-k8s.io/v1alpha2";
  readonly kind: "JobSet";
  readonly metadata: V1ObjectMeta;
  readonly spec: JobSetSpec;
}

interface JobSetSpec {
  readonly suspend?: boolean;
  readonly network: { readonly enableDNSHostnames: boolean; readonly subdomain: string };
  readonly failurePolicy: FailurePolicy;
  readonly replicatedJobs: readonly ReplicatedJob[];
  readonly ttlSecondsAfterFinished?: number;
}

interface FailurePolicy {
  readonly maxRestarts: number;
  readonly rules: readonly {
    readonly name: string;
    readonly action: "FailJobSet";
    readonly onJobFailureReasons: readonly string[];
  }[];
}

interface ReplicatedJob {
  readonly name: string;
  readonly replicas: 1;
  readonly dependsOn?: readonly { readonly name: string; readonly status: "Complete" }[];
  readonly template: V1JobTemplateSpec;
}

/** What the JobSet controller labels the pods of a JobSet with. */
export const JOB_SET_LABEL = "jobset.sigs.k8s.io/jobset-name";
export const REPLICATED_JOB_LABEL = "jobset.sigs.k8s.io/replicatedjob-name";

const RESTARTS_MAX = 3;

/** @param options.jobs by stage, in the order of the stages */
export function renderJobSet(options: {
  readonly name: string;
  readonly namespace: string;
  readonly jobs: readonly (readonly [StageName, V1Job])[];
}): JobSet {
  const { name, namespace, jobs } = options;
  const first = jobs[0]?.[1];
  const annotations = { ...first?.metadata?.annotations };
  const ttl = first?.spec?.ttlSecondsAfterFinished;
  return {
    apiVersion: "jobset.x-k8s.io/v1alpha2",
    kind: "JobSet",
    metadata: { name, namespace, labels: { ...WORKER_LABELS }, annotations },
    spec: {
      network: { enableDNSHostnames: true, subdomain: WORKERS_SERVICE },
      failurePolicy: {
        maxRestarts: RESTARTS_MAX,
        // Workers that only a person can help: see pod-failure-policy.ts.
        rules: [
          { name: "Permanent", action: "FailJobSet", onJobFailureReasons: ["PodFailurePolicy"] },
        ],
      },
      replicatedJobs: jobs.map(([stage, job], i) => ({
        name: stage,
        replicas: 1,
        ...dependsOn(jobs[i - 1]?.[0]),
        template: jobTemplate(job),
      })),
      ...(ttl === undefined ? {} : { ttlSecondsAfterFinished: ttl }),
    },
  };
}

function dependsOn(before: StageName | undefined): Pick<ReplicatedJob, "dependsOn"> {
  return before === undefined ? {} : { dependsOn: [{ name: before, status: "Complete" }] };
}

function jobTemplate({ metadata, spec }: V1Job): V1JobTemplateSpec {
  // A Job of a set that is cleared away alone would be made anew.
  const { ttlSecondsAfterFinished: _, ...rest } = spec ?? { template: {} };
  return { metadata: { labels: { ...metadata?.labels } }, spec: rest };
}
