/**
 * What Kubernetes is to make of a worker's exit status, read off the table of errors: a preempted
 * worker is replaced and not counted, one that only a person can help ends the Job, and any other
 * is replaced as often as the Job's limit allows.
 */

import type { V1PodFailurePolicy, V1PodFailurePolicyRule } from "@kubernetes/client-node";
import { ERROR_SPECS, type ErrorCode } from "../../proto/errors.ts";

/** For a person, but of one machine: the same worker may well run on another one. */
const OF_ONE_MACHINE: readonly ErrorCode[] = [
  "ENGINE_UNAVAILABLE",
  "PORT_IN_USE",
  "STORAGE_FAILED",
];

/** Rules count in their order: the first one that fits decides. */
export function podFailurePolicy(containerName: string): V1PodFailurePolicy {
  const onExit = (action: string, values: readonly number[]): V1PodFailurePolicyRule => ({
    action,
    onExitCodes: { containerName, operator: "In", values: [...values] },
  });
  return {
    rules: [
      { action: "Ignore", onPodConditions: [{ type: "DisruptionTarget", status: "True" }] },
      onExit("Ignore", [ERROR_SPECS.PREEMPTED.exit]),
      onExit("FailJob", permanentExits()),
    ],
  };
}

function permanentExits(): readonly number[] {
  const codes = Object.keys(ERROR_SPECS) as ErrorCode[];
  const isPermanent = (code: ErrorCode): boolean =>
    ERROR_SPECS[code].remedy === "user" && !OF_ONE_MACHINE.includes(code);
  const exits = new Set(codes.filter(isPermanent).map((code) => ERROR_SPECS[code].exit));
  return [...exits].toSorted((a, b) => a - b);
}
