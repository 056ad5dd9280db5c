/** Who may call whom, by the NetworkPolicies of a namespace. */

import type { V1NetworkPolicy, V1NetworkPolicyPeer } from "@kubernetes/client-node";
import { type Labels, matches } from "./cluster-objects.ts";

/** A pod of the namespace, or somebody in another one. */
export type Party = { readonly labels: Labels } | "elsewhere";

type Direction = "Ingress" | "Egress";

interface Rule {
  readonly ports?: readonly { readonly port?: number | string }[];
  readonly peers: readonly V1NetworkPolicyPeer[] | undefined;
}

/** Both sides have to allow it: whoever calls, and whoever is called. */
export function mayCall(
  policies: readonly V1NetworkPolicy[],
  { from, to, port }: { readonly from: Party; readonly to: Party; readonly port: number },
): boolean {
  const lets = (own: Party, direction: Direction, other: Party): boolean =>
    own === "elsewhere" || isAllowed(policies, { own, direction, other, port });
  return lets(from, "Egress", to) && lets(to, "Ingress", from);
}

function isAllowed(
  policies: readonly V1NetworkPolicy[],
  call: {
    readonly own: { readonly labels: Labels };
    readonly direction: Direction;
    readonly other: Party;
    readonly port: number;
  },
): boolean {
  const { own, direction, other, port } = call;
  const about = policies.filter(
    ({ spec }) =>
      spec?.policyTypes?.includes(direction) &&
      matches(own.labels, spec.podSelector?.matchLabels ?? {}),
  );
  if (about.length === 0) return true;
  const rules = about.flatMap(({ spec }): readonly Rule[] =>
    direction === "Ingress"
      ? // The client's name for what is `from` in a manifest.
        (spec?.ingress ?? []).map((rule) => ({ ...rule, peers: peersOf(rule, "from") }))
      : (spec?.egress ?? []).map((rule) => ({ ...rule, peers: peersOf(rule, "to") })),
  );
  return rules.some(
    ({ ports, peers }) =>
      (ports?.some((each) => each.port === port) ?? true) &&
      (peers?.some((peer) => isMeant(peer, other)) ?? true),
  );
}

function peersOf(rule: object, key: "from" | "to"): readonly V1NetworkPolicyPeer[] | undefined {
  return (rule as Readonly<Record<string, readonly V1NetworkPolicyPeer[] | undefined>>)[key];
}

function isMeant(peer: V1NetworkPolicyPeer, other: Party): boolean {
  if (other === "elsewhere") return peer.namespaceSelector !== undefined && !peer.podSelector;
  if (peer.podSelector === undefined) return peer.namespaceSelector !== undefined;
  return matches(other.labels, peer.podSelector.matchLabels);
}
