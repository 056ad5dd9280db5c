/**
 * What is called how in a cluster. `deploy/kubernetes/` says the same in YAML; a test holds every
 * reference between the two.
 */

import type { StageName } from "../../proto/recipe.ts";
import { SOFTWARE_VERSION } from "../../proto/version.ts";

export const NAMESPACE = "simclr";

/** What a worker computes with. */
export const DEVICES = ["gpu", "cpu"] as const;
export type Device = (typeof DEVICES)[number];

export const WORKER_IMAGES: Readonly<Record<Device, string>> = {
  gpu: `simclr-fleet/worker-gpu:${SOFTWARE_VERSION}`,
  cpu: `simclr-fleet/worker-cpu:${SOFTWARE_VERSION}`,
};

/** Where workers and commands find the coordinator. */
export const COORDINATOR_ADDRESS = "simclr-coordinator:50051";

/** The headless Service that gives each worker a name of its own. */
export const WORKERS_SERVICE = "simclr-workers";
export const PEER_PORT = 50_052;
export const WORKER_HTTP_PORT = 9_465;

/** Secret of the fleet's tokens, and its key for that of workers and commands. */
export const SECRETS = "simclr-secrets";
export const JOIN_TOKEN_KEY = "join-token";
/** Secret of type kubernetes.io/tls, with the CA in `ca.crt`. */
export const TLS_SECRET = "simclr-tls";
/** The name in its certificate, which all of the fleet share. */
export const TLS_SERVER_NAME = "simclr.internal";

export const DATA_CLAIM = "simclr-data";
export const WORK_DIRS_CLAIM = "simclr-work-dirs";
export const WORK_DIRS_PATH = "/work_dirs";

/** Of the images' user. */
export const USER_ID = 10_001;

export const EXPERIMENT_LABEL = "simclr-fleet/experiment";
export const STAGE_LABEL = "simclr-fleet/stage";
const NAME_LENGTH_MAX = 40;
const LABEL_LENGTH_MAX = 63;

/** Of the queue that Kueue admits workers from. */
export const LOCAL_QUEUE = "simclr";

/** The labels that every worker has; Services and policies select by them. */
export const WORKER_LABELS = {
  "app.kubernetes.io/name": "simclr-fleet",
  "app.kubernetes.io/component": "worker",
  "app.kubernetes.io/part-of": "simclr-fleet",
} as const;

/**
 * `text` as a name of Kubernetes objects, e.g. of a recipe. It is short enough for what is appended
 * to it: stage, number of the Job and of the pod make a host name of at most 63 letters.
 */
export function objectName(text: string): string {
  const letters = text.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-");
  const name = letters.replace(/^[-0-9]+/, "").slice(0, NAME_LENGTH_MAX);
  return name.replace(/-+$/, "") || "simclr";
}

/** The Job of a stage's workers; `stem` is e.g. the id of an experiment. */
export function workerJobName(stem: string, stage: StageName): string {
  return `${objectName(stem)}-${stage}`;
}

/** `text` as the value of a label: cut at its length, and without what may not begin or end it. */
export function labelValue(text: string): string {
  const value = text.replaceAll(/[^A-Za-z0-9_.-]/g, "_").replace(/^[_.-]+/, "");
  return value.slice(0, LABEL_LENGTH_MAX).replace(/[_.-]+$/, "");
}
