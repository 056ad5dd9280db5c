/**
 * The pod of one worker. It may change nothing of its own file system, has no rights in the
 * cluster, and leaves the work dirs, the data and its memory to volumes. Its name in the network is
 * that of the Job and its index, which the coordinator and its peers are told.
 */

import type {
  V1Container,
  V1EnvVar,
  V1PodSpec,
  V1Probe,
  V1Volume,
  V1VolumeMount,
} from "@kubernetes/client-node";
import { DRAIN_TIMEOUT_MS } from "../../proto/limits.ts";
import type { Recipe, StageName } from "../../proto/recipe.ts";
import { dataMountPath } from "./data-mount.ts";
import {
  COORDINATOR_ADDRESS,
  DATA_CLAIM,
  type Device,
  JOIN_TOKEN_KEY,
  PEER_PORT,
  SECRETS,
  TLS_SECRET,
  TLS_SERVER_NAME,
  USER_ID,
  WORK_DIRS_CLAIM,
  WORK_DIRS_PATH,
  WORKER_HTTP_PORT,
  WORKER_IMAGES,
  WORKERS_SERVICE,
} from "./object-names.ts";
import { type WorkerSize, workerSize } from "./worker-size.ts";

export interface WorkerPodOptions {
  readonly recipe: Recipe;
  readonly stage: StageName;
  /** "gpu" when absent. */
  readonly device?: Device;
  /** That of the device and of this version when absent. */
  readonly image?: string;
  /** The only experiment that the worker takes part in; any one when absent. */
  readonly experimentId?: string;
  /** HOST:PORT of each, with commas; the Service of the cluster when absent. */
  readonly coordinator?: string;
  /** As the coordinator's own; "tls" when absent. */
  readonly security?: "tls" | "plaintext";
}

/** For the policies that name it. */
export const WORKER_CONTAINER = "worker";

const TLS_PATH = "/etc/simclr-tls";
const MIB = 2 ** 20;
const GIB = 2 ** 30;
/** Storage that is slower makes a drained gang go back to the checkpoint before. */
const SLOWEST_STORAGE_BYTES_PER_S = 10e6;
/** For saying goodbye to the coordinator and to peers. */
const FAREWELL_S = 10;
const ENGINES: Readonly<Record<Device, string>> = { gpu: "tfjs:node-gpu", cpu: "onednn" };

/** @throws {FleetError} RECIPE_INVALID when the recipe's data can be mounted nowhere */
export function workerPod(options: WorkerPodOptions): V1PodSpec {
  const { recipe, stage, device = "gpu", security = "tls" } = options;
  const size = workerSize(recipe, stage, device);
  return {
    restartPolicy: "Never",
    subdomain: WORKERS_SERVICE,
    terminationGracePeriodSeconds: graceSeconds(size),
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    securityContext: {
      runAsNonRoot: true,
      runAsUser: USER_ID,
      runAsGroup: USER_ID,
      fsGroup: USER_ID,
      // Nobody waits until the owner of a million images has been changed.
      fsGroupChangePolicy: "OnRootMismatch",
      seccompProfile: { type: "RuntimeDefault" },
    },
    containers: [container(options, size)],
    volumes: volumes(size, security),
    ...(device === "gpu"
      ? { tolerations: [{ key: "nvidia.com/gpu", operator: "Exists", effect: "NoSchedule" }] }
      : {}),
  };
}

/** From SIGTERM to SIGKILL: the step under way, the last checkpoint, and the farewell. */
function graceSeconds({ checkpointBytes }: WorkerSize): number {
  const writing = Math.ceil(checkpointBytes / SLOWEST_STORAGE_BYTES_PER_S);
  return DRAIN_TIMEOUT_MS / 1_000 + writing + FAREWELL_S;
}

function container(options: WorkerPodOptions, size: WorkerSize): V1Container {
  const { recipe, device = "gpu", security = "tls" } = options;
  return {
    name: WORKER_CONTAINER,
    image: options.image ?? WORKER_IMAGES[device],
    // The image starts `worker`. Here begin relative paths of the recipe; see data-mount.ts.
    workingDir: "/",
    args: [...args(options, size)],
    env: [...environment(security)],
    ports: [
      { name: "peer", containerPort: PEER_PORT },
      { name: "http", containerPort: WORKER_HTTP_PORT },
    ],
    // A worker that is short of CPU holds up its gang: so there is no limit of it.
    resources: {
      requests: {
        cpu: String(device === "gpu" ? size.threads + size.loaderThreads : size.threads),
        memory: `${size.memoryBytes / GIB}Gi`,
      },
      limits: {
        memory: `${size.memoryBytes / GIB}Gi`,
        ...(device === "gpu" ? { "nvidia.com/gpu": "1" } : {}),
      },
    },
    // Starting takes as long as the engine needs to load; later it takes a minute to be hopeless.
    startupProbe: probe({ periodSeconds: 2, failureThreshold: 150 }),
    livenessProbe: probe({ periodSeconds: 10, failureThreshold: 6 }),
    readinessProbe: probe({ periodSeconds: 10, failureThreshold: 3 }),
    securityContext: {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"] },
    },
    volumeMounts: [...mounts(dataMountPath(recipe.data.root), security)],
  };
}

function args(options: WorkerPodOptions, size: WorkerSize): readonly string[] {
  const { stage, device = "gpu", experimentId, security = "tls" } = options;
  const flags: Readonly<Record<string, string>> = {
    "--coordinator": options.coordinator ?? COORDINATOR_ADDRESS,
    "--host": "0.0.0.0",
    "--peer-port": String(PEER_PORT),
    "--http-port": String(WORKER_HTTP_PORT),
    // The host name that an Indexed Job gives its pods; a pod's own name is no host name.
    "--advertise": `$(JOB_NAME)-$(JOB_COMPLETION_INDEX).${WORKERS_SERVICE}:${PEER_PORT}`,
    "--name": "$(POD_NAME)",
    "--stage": stage,
    ...(experimentId === undefined ? {} : { "--experiment": experimentId }),
    "--work-dir": WORK_DIRS_PATH,
    "--engine": ENGINES[device],
    "--threads": String(size.threads),
    "--loader-threads": String(size.loaderThreads),
    // Pods of one `kubectl apply` come up in any order.
    "--connect-timeout": "300",
  };
  const plaintext = security === "plaintext" ? ["--plaintext"] : [];
  return ["start", ...Object.entries(flags).flat(), "--leave-when-over", ...plaintext];
}

function environment(security: "tls" | "plaintext"): readonly V1EnvVar[] {
  const field = (name: string, fieldPath: string): V1EnvVar => ({
    name,
    valueFrom: { fieldRef: { fieldPath } },
  });
  const secret = { name: SECRETS, key: JOIN_TOKEN_KEY };
  const tls = [
    { name: "SIMCLR_TLS_CERT", value: `${TLS_PATH}/tls.crt` },
    { name: "SIMCLR_TLS_KEY", value: `${TLS_PATH}/tls.key` },
    { name: "SIMCLR_TLS_CA", value: `${TLS_PATH}/ca.crt` },
    { name: "SIMCLR_TLS_SERVER_NAME", value: TLS_SERVER_NAME },
  ];
  return [
    field("POD_NAME", "metadata.name"),
    field("JOB_NAME", "metadata.labels['batch.kubernetes.io/job-name']"),
    field(
      "JOB_COMPLETION_INDEX",
      "metadata.annotations['batch.kubernetes.io/job-completion-index']",
    ),
    { name: "SIMCLR_JOIN_TOKEN", valueFrom: { secretKeyRef: secret } },
    ...(security === "tls" ? tls : []),
  ];
}

function probe(patience: Pick<V1Probe, "periodSeconds" | "failureThreshold">): V1Probe {
  return { httpGet: { path: "/healthz", port: "http" }, timeoutSeconds: 5, ...patience };
}

function mounts(dataPath: string, security: "tls" | "plaintext"): readonly V1VolumeMount[] {
  const tls = { name: "tls", mountPath: TLS_PATH, readOnly: true };
  return [
    { name: "data", mountPath: dataPath, readOnly: true },
    { name: "work-dirs", mountPath: WORK_DIRS_PATH },
    { name: "shared-memory", mountPath: "/dev/shm" },
    { name: "tmp", mountPath: "/tmp" },
    ...(security === "tls" ? [tls] : []),
  ];
}

function volumes({ sharedBytes }: WorkerSize, security: "tls" | "plaintext"): V1Volume[] {
  const sizeLimit = `${sharedBytes / MIB}Mi`;
  // Readable for the user's group, which is fsGroup.
  const tls = { name: "tls", secret: { secretName: TLS_SECRET, defaultMode: 0o440 } };
  return [
    { name: "data", persistentVolumeClaim: { claimName: DATA_CLAIM, readOnly: true } },
    { name: "work-dirs", persistentVolumeClaim: { claimName: WORK_DIRS_CLAIM } },
    { name: "shared-memory", emptyDir: { medium: "Memory", sizeLimit } },
    { name: "tmp", emptyDir: { sizeLimit: "1Gi" } },
    ...(security === "tls" ? [tls] : []),
  ];
}
