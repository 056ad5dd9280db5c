/** Finds the Kubernetes cluster: $KUBECONFIG, ~/.kube/config, or the one that this is a pod of. */

import { KubeConfig } from "@kubernetes/client-node";
import { FleetError } from "../../proto/errors.ts";
import { NAMESPACE } from "../kubernetes/object-names.ts";

export interface Cluster {
  readonly config: KubeConfig;
  readonly namespace: string;
}

/** What the client takes when it finds nothing. */
const NOWHERE = "http://localhost:8080";

/**
 * @param namespace that of the kubeconfig's context, or of the own pod, when undefined
 * @throws {FleetError} USAGE when there is none
 */
export function openCluster(namespace: string | undefined): Cluster {
  const config = new KubeConfig();
  try {
    config.loadFromDefault();
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new FleetError("USAGE", `cannot read the kubeconfig: ${why}`, {}, cause);
  }
  const cluster = config.getCurrentCluster();
  if (!cluster) {
    throw new FleetError("USAGE", "the kubeconfig has no current context with a cluster");
  }
  const { server, skipTLSVerify } = cluster;
  if (server === NOWHERE) {
    const where = "neither $KUBECONFIG nor ~/.kube/config names one, and this is no pod";
    throw new FleetError("USAGE", `--launcher kubernetes finds no cluster: ${where}`);
  }
  if (server.startsWith("http:") && !skipTLSVerify) {
    const how = "set its insecure-skip-tls-verify if that is meant";
    throw new FleetError("USAGE", `the kubeconfig's cluster ${server} is without TLS: ${how}`);
  }
  const context = config.getContextObject(config.getCurrentContext());
  return { config, namespace: namespace ?? (context?.namespace || NAMESPACE) };
}
