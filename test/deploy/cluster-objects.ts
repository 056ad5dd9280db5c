/** Objects of a cluster, and the pods that come of them, with what their controllers add. */

import assert from "node:assert/strict";
import type {
  V1Deployment,
  V1Job,
  V1NetworkPolicy,
  V1PersistentVolumeClaim,
  V1PodDisruptionBudget,
  V1PodSpec,
  V1RoleBinding,
  V1Secret,
  V1Service,
  V1StatefulSet,
} from "@kubernetes/client-node";
import { parseAllDocuments } from "yaml";
import type { JobSet } from "../../coordinator/kubernetes/worker-job-set.ts";
import type { KubernetesObject } from "../support/kubernetes-schemas.ts";

/** The kinds whose references are looked at. */
interface Kinds {
  readonly Deployment: V1Deployment;
  readonly Job: V1Job;
  readonly JobSet: JobSet;
  readonly NetworkPolicy: V1NetworkPolicy;
  readonly PersistentVolumeClaim: V1PersistentVolumeClaim;
  readonly PodDisruptionBudget: V1PodDisruptionBudget;
  readonly RoleBinding: V1RoleBinding;
  readonly Secret: V1Secret;
  readonly Service: V1Service;
  readonly StatefulSet: V1StatefulSet;
}

export type Labels = Readonly<Record<string, string>>;

export interface Pod {
  /** Kind and name of what makes it. */
  readonly of: string;
  readonly labels: Labels;
  readonly spec: V1PodSpec;
  /** Claims of a StatefulSet. */
  readonly ownVolumes: readonly string[];
}

export function parseObjects(yaml: string): readonly KubernetesObject[] {
  const documents = parseAllDocuments(yaml);
  assert.ok(Array.isArray(documents), "there are documents");
  return documents.map((document) => {
    assert.deepEqual(document.errors, []);
    return document.toJS() as KubernetesObject;
  });
}

export function ofKind<Kind extends keyof Kinds>(
  objects: readonly KubernetesObject[],
  kind: Kind,
): readonly Kinds[Kind][] {
  return objects.filter((each) => each.kind === kind) as unknown as readonly Kinds[Kind][];
}

export function podsOf(objects: readonly KubernetesObject[]): readonly Pod[] {
  const lasting = [...ofKind(objects, "Deployment"), ...ofKind(objects, "StatefulSet")];
  return [
    ...lasting.map(({ kind, metadata, spec }) => {
      const { volumeClaimTemplates = [] } = (spec ?? {}) as NonNullable<V1StatefulSet["spec"]>;
      const ownVolumes = volumeClaimTemplates.map((claim) => claim.metadata?.name ?? "");
      return pod(`${kind} ${metadata?.name}`, spec?.template, { ownVolumes });
    }),
    ...ofKind(objects, "Job").map(({ metadata, spec }) => {
      const added = { "batch.kubernetes.io/job-name": metadata?.name ?? "" };
      return pod(`Job ${metadata?.name}`, spec?.template, { added });
    }),
    ...ofKind(objects, "JobSet").flatMap(({ metadata, spec }) =>
      spec.replicatedJobs.map(({ name, template }) => {
        const added = {
          "jobset.sigs.k8s.io/jobset-name": metadata.name ?? "",
          "jobset.sigs.k8s.io/replicatedjob-name": name,
        };
        return pod(`JobSet ${metadata.name}, ${name}`, template.spec?.template, { added });
      }),
    ),
  ];
}

export function matches(labels: Labels, selector: Labels | undefined): boolean {
  return Object.entries(selector ?? {}).every(([name, value]) => labels[name] === value);
}

function pod(
  of: string,
  template: { metadata?: { labels?: Labels }; spec?: V1PodSpec } | undefined,
  { added = {}, ownVolumes = [] }: { added?: Labels; ownVolumes?: readonly string[] },
): Pod {
  const spec = template?.spec;
  assert.ok(spec, `${of} has a pod`);
  return { of, labels: { ...template?.metadata?.labels, ...added }, spec, ownVolumes };
}
