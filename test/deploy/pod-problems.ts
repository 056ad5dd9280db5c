/** What a cluster would find wrong with a pod only once it is to run, or never says at all. */

import type { V1Container, V1Secret } from "@kubernetes/client-node";
import type { KubernetesObject } from "../support/kubernetes-schemas.ts";
import { ofKind, type Pod } from "./cluster-objects.ts";

/** References to what is not there, and more rights than it needs. */
export function podProblems(pod: Pod, objects: readonly KubernetesObject[]): readonly string[] {
  const { spec, of } = pod;
  const has = (kind: string, name: string | undefined): boolean =>
    objects.some((each) => each.kind === kind && each.metadata.name === name);
  const services = ofKind(objects, "Service");
  const headless = services.filter((each) => each.spec?.clusterIP === "None");
  const problems = [
    ...missing("claim", claimsOf(pod), (name) => has("PersistentVolumeClaim", name)),
    ...missing("secret", secretsOf(pod), (name) => has("Secret", name)),
    ...missing("account", [spec.serviceAccountName], (name) => has("ServiceAccount", name)),
    ...missing("subdomain", [spec.subdomain], (name) =>
      headless.some((each) => each.metadata?.name === name && each.spec?.publishNotReadyAddresses),
    ),
    ...rightsProblems(pod),
    ...spec.containers.flatMap((each) => containerProblems(each, pod, objects)),
  ];
  return problems.map((problem) => `${of}: ${problem}`);
}

function containerProblems(
  container: V1Container,
  pod: Pod,
  objects: readonly KubernetesObject[],
): readonly string[] {
  const { args = [], env = [], ports = [], volumeMounts = [], resources, image } = container;
  const volumes = [...(pod.spec.volumes ?? []).map(({ name }) => name), ...pod.ownVolumes];
  const variables = env.map(({ name }) => name);
  const texts = [...args, ...env.map(({ value = "" }) => value)];
  const used = texts.flatMap((text) => [...text.matchAll(/\$\((\w+)\)/g)].map(([, name]) => name));
  const probes = [container.startupProbe, container.livenessProbe, container.readinessProbe];
  const probed = probes.flatMap((probe) => probe?.httpGet?.port ?? []);
  const addresses = texts.flatMap((text) => [
    ...text.matchAll(/(?:^|[./@])(simclr-[\w-]+):(\d+)$/g),
  ]);
  const keys = env.flatMap(({ valueFrom }) => valueFrom?.secretKeyRef ?? []);
  return [
    ...missing(
      "volume",
      volumeMounts.map(({ name }) => name),
      (name) => volumes.includes(name),
    ),
    ...missing("variable", used, (name) => variables.includes(name)),
    ...missing("port", probed.map(String), (name) => ports.some((port) => port.name === name)),
    ...missing(
      "address",
      addresses.map(([, host, port]) => `${host}:${port}`),
      (address) => isServed(address, objects),
    ),
    ...missing(
      "key",
      keys.map(({ name, key }) => `${name} ${key}`),
      (key) => secretKeys(objects).includes(key),
    ),
    ...(/^[\w./-]+:[\w.-]+$/.test(image ?? "") && !image?.endsWith(":latest") ? [] : ["no tag"]),
    ...(resources?.limits?.["memory"] && resources.requests?.["cpu"] ? [] : ["no resources"]),
  ];
}

/** As the standard `restricted` of Pod Security asks, and a file system that nobody changes. */
function rightsProblems({ spec }: Pod): readonly string[] {
  const { securityContext: own, containers } = spec;
  const isRestricted =
    own?.runAsNonRoot === true &&
    (own.runAsUser ?? 0) > 0 &&
    own.seccompProfile?.type === "RuntimeDefault" &&
    !spec.hostNetwork &&
    !spec.hostPID;
  const tooMuch = containers.filter(
    ({ securityContext: each }) =>
      each?.allowPrivilegeEscalation !== false ||
      each.readOnlyRootFilesystem !== true ||
      each.capabilities?.drop?.join() !== "ALL" ||
      each.capabilities.add !== undefined,
  );
  return [
    ...(isRestricted ? [] : ["is not restricted"]),
    ...tooMuch.map(({ name }) => `${name} has too many rights`),
  ];
}

function claimsOf({ spec }: Pod): readonly (string | undefined)[] {
  return (spec.volumes ?? []).map((volume) => volume.persistentVolumeClaim?.claimName);
}

function secretsOf({ spec }: Pod): readonly (string | undefined)[] {
  return (spec.volumes ?? []).map((volume) => volume.secret?.secretName);
}

function secretKeys(objects: readonly KubernetesObject[]): readonly string[] {
  const keysOf = ({ data, stringData }: V1Secret): string[] =>
    Object.keys({ ...data, ...stringData });
  return ofKind(objects, "Secret").flatMap((secret) =>
    keysOf(secret).map((key) => `${secret.metadata?.name} ${key}`),
  );
}

/** Whether a Service has this name and this port. */
function isServed(address: string, objects: readonly KubernetesObject[]): boolean {
  return ofKind(objects, "Service").some(({ metadata, spec }) =>
    spec?.ports?.some(({ port }) => `${metadata?.name}:${port}` === address),
  );
}

function missing(
  what: string,
  names: readonly (string | undefined)[],
  isThere: (name: string) => boolean,
): readonly string[] {
  return names.flatMap((name) =>
    name === undefined || isThere(name) ? [] : [`there is no ${what} ${name}`],
  );
}
