/** The options of `coordinator start` that have a cluster run the workers. */

import { type Command, Option } from "commander";
import { FleetError } from "../../proto/errors.ts";
import type { Transport } from "../../proto/transport.ts";
import { DEVICES, type Device } from "../kubernetes/object-names.ts";
import type { LauncherOptions } from "../launcher/launcher.ts";
import { dnsLabel } from "./manifests.ts";
import { readJobTemplate } from "./read-job-template.ts";

export interface LauncherFlags {
  readonly launcher?: "kubernetes";
  readonly kubernetesNamespace?: string;
  readonly workerImage?: string;
  readonly workerDevice?: Device;
  readonly workerTemplate?: string;
}

export function withLauncherOptions(command: Command): Command {
  return command
    .addOption(
      new Option(
        "--launcher <name>",
        "kubernetes: create and delete the worker Jobs of each stage; the cluster is that of " +
          "$KUBECONFIG, ~/.kube/config, or of the own pod",
      ).choices(["kubernetes"]),
    )
    .option("--kubernetes-namespace <name>", "of the Jobs; the cluster's own by default", dnsLabel)
    .option("--worker-image <image>", "simclr-fleet/worker-gpu or -cpu by default")
    .addOption(
      new Option("--worker-device <device>", "what a worker computes with; gpu by default").choices(
        DEVICES,
      ),
    )
    .option("--worker-template <file>", "YAML of a part of a Job, laid over all of them");
}

/** @throws {FleetError} USAGE, NOT_FOUND */
export async function parseLauncherFlags(
  flags: LauncherFlags,
  { security }: Pick<Transport, "security">,
): Promise<LauncherOptions | undefined> {
  const { launcher, kubernetesNamespace, workerImage, workerDevice, workerTemplate } = flags;
  if (launcher === undefined) {
    const given = [kubernetesNamespace, workerImage, workerDevice, workerTemplate];
    if (given.every((value) => value === undefined)) return undefined;
    const problem = "--kubernetes-namespace and --worker-* need --launcher kubernetes";
    throw new FleetError("USAGE", problem);
  }
  return {
    security,
    device: workerDevice ?? "gpu",
    ...(kubernetesNamespace === undefined ? {} : { namespace: kubernetesNamespace }),
    ...(workerImage === undefined ? {} : { image: workerImage }),
    ...(workerTemplate === undefined
      ? {}
      : { template: await readJobTemplate("--worker-template", workerTemplate) }),
  };
}
