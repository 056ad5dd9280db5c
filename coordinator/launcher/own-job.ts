/**
 * A worker Job of this coordinator as the API server shows it, and the marks by which it is known
 * again: after a restart, to a successor, and from those of other fleets in the namespace. Pure.
 */

import type { V1Job } from "@kubernetes/client-node";
import type { StageName } from "../../proto/recipe.ts";
import {
  EXPERIMENT_LABEL,
  labelValue,
  objectName,
  STAGE_LABEL,
} from "../kubernetes/object-names.ts";

export interface OwnJob {
  readonly name: string;
  readonly uid: string;
  readonly experimentId: string;
  readonly stage: string;
  /** From 1; of the same stage a later one stands in for workers that are gone for good. */
  readonly attempt: number;
  /** Workers that it has or is to have again. */
  readonly workers: number;
  /** It, or one of its workers, has failed so often that it is not started again; and why. */
  readonly failure: string | undefined;
  /** Nothing of it runs before it is resumed, by a queue for one. */
  readonly isSuspended: boolean;
  readonly isBeingDeleted: boolean;
  /** Of the coordinator that has created it. */
  readonly epoch: number;
}

const MANAGER_LABEL = "app.kubernetes.io/managed-by";
const MANAGER = "simclr-coordinator";
const INSTANCE_LABEL = "app.kubernetes.io/instance";
/** The whole id: a label's value is cut. */
const EXPERIMENT_ANNOTATION = EXPERIMENT_LABEL;
const ATTEMPT_ANNOTATION = "simclr-fleet/attempt";
const EPOCH_ANNOTATION = "simclr-fleet/epoch";
/** As object names have it. */
const STEM_LENGTH_MAX = 40;
/** A dash and what makes an id unlike all others. */
const ID_TAIL_LENGTH = 7;

/** Finds the Jobs of the fleet that is called so on its Redis. */
export function jobSelector(instance: string): string {
  return `${MANAGER_LABEL}=${MANAGER},${INSTANCE_LABEL}=${labelValue(instance)}`;
}

/** The same name for the same purpose, so that a Job is never created twice. */
export function jobName(experimentId: string, stage: StageName, attempt: number): string {
  const id = /^[a-z]/i.test(experimentId) ? experimentId : `e-${experimentId}`;
  const head = id.slice(0, STEM_LENGTH_MAX - ID_TAIL_LENGTH);
  const stem = id.length > STEM_LENGTH_MAX ? `${head}${id.slice(-ID_TAIL_LENGTH)}` : id;
  return `${objectName(stem)}-${stage}${attempt === 1 ? "" : `-${attempt}`}`;
}

/** Marks a rendered Job as one of this coordinator's. */
export function markJob(
  job: V1Job,
  mark: Pick<OwnJob, "experimentId" | "attempt" | "epoch"> & { readonly instance: string },
): V1Job {
  const labels = { [MANAGER_LABEL]: MANAGER, [INSTANCE_LABEL]: labelValue(mark.instance) };
  const annotations = {
    [EXPERIMENT_ANNOTATION]: mark.experimentId,
    [ATTEMPT_ANNOTATION]: String(mark.attempt),
    [EPOCH_ANNOTATION]: String(mark.epoch),
  };
  const { ttlSecondsAfterFinished: _, ...spec } = job.spec ?? { template: {} };
  return {
    ...job,
    metadata: {
      ...job.metadata,
      labels: { ...job.metadata?.labels, ...labels },
      annotations: { ...job.metadata?.annotations, ...annotations },
    },
    // How often it has failed is counted by those that are there: they stay until the stage ends.
    spec,
  };
}

/** Undefined for one that lacks the marks: somebody else has made it. */
export function toOwnJob({ metadata, spec, status }: V1Job): OwnJob | undefined {
  const { name, uid, labels, annotations, deletionTimestamp } = metadata ?? {};
  const experimentId = annotations?.[EXPERIMENT_ANNOTATION];
  const stage = labels?.[STAGE_LABEL];
  if (!name || !uid || !experimentId || !stage) return undefined;
  const condition = (type: string) =>
    status?.conditions?.find((one) => one.type === type && one.status === "True");
  const failed = condition("Failed") ?? condition("FailureTarget");
  const isOver = failed !== undefined || condition("Complete") !== undefined;
  const failedIndexes = countIndexes(status?.failedIndexes);
  const gone = (status?.succeeded ?? 0) + failedIndexes;
  return {
    ...{ name, uid, experimentId, stage },
    attempt: count(annotations[ATTEMPT_ANNOTATION], 1),
    workers: isOver ? 0 : Math.max(0, (spec?.completions ?? 1) - gone),
    failure: failed
      ? [failed.reason, failed.message].filter(Boolean).join(": ") || "it says no reason"
      : failureOfIndexes(failedIndexes),
    isSuspended: spec?.suspend === true,
    isBeingDeleted: deletionTimestamp !== undefined,
    epoch: count(annotations[EPOCH_ANNOTATION], 0),
  };
}

function failureOfIndexes(failed: number): string | undefined {
  if (failed === 0) return undefined;
  return `${failed} of its workers failed too often to be started again`;
}

/** Of a list like "1,3-5". */
function countIndexes(list = ""): number {
  return [...list.matchAll(/(\d+)(?:-(\d+))?/g)].reduce((sum, [, first, last = first]) => {
    return sum + Number(last) - Number(first) + 1;
  }, 0);
}

function count(text: string | undefined, otherwise: number): number {
  const value = Number(text);
  return Number.isSafeInteger(value) && value > 0 ? value : otherwise;
}
