/** The schemas of Kubernetes, version by version: strict, so that a mistyped key is an error. */

import { readFileSync } from "node:fs";
import path from "node:path";
import { Ajv, type ValidateFunction } from "ajv";
import { ROOT } from "./sources.ts";

/** The newest minor version of Kubernetes and the two before it. */
export const KUBERNETES_VERSIONS = ["1.35", "1.36", "1.37"] as const;

export interface KubernetesObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
}

interface Definition {
  readonly properties?: {
    readonly apiVersion?: { readonly const?: string };
    readonly kind?: { readonly const?: string };
  };
}

/** What is wrong with an object, in words; empty when nothing is. */
export type CheckObject = (object: KubernetesObject) => readonly string[];

/** A check against the API of one version of Kubernetes, and the custom resources used here. */
export function openKubernetesSchema(version: (typeof KUBERNETES_VERSIONS)[number]): CheckObject {
  const definitions = { ...read(`kubernetes-${version}.json`), ...read("custom.json") };
  const ajv = new Ajv({ allErrors: true, allowUnionTypes: true });
  ajv.addSchema({ $id: "kubernetes", definitions });
  const names = new Map<string, string>();
  for (const [name, { properties }] of Object.entries(definitions)) {
    const { apiVersion, kind } = properties ?? {};
    if (kind?.const !== undefined) names.set(`${apiVersion?.const} ${kind.const}`, name);
  }
  return (object) => {
    const name = names.get(`${object.apiVersion} ${object.kind}`);
    if (name === undefined) return [`there is no ${object.kind} of ${object.apiVersion}`];
    const validate = ajv.getSchema(`kubernetes#/definitions/${name}`) as ValidateFunction;
    const unchecked: unknown = object;
    if (validate(unchecked)) return [];
    const problems = validate.errors ?? [];
    return problems.map(({ instancePath, message, params }) => {
      const key = "additionalProperty" in params ? ` "${params["additionalProperty"]}"` : "";
      return `${object.kind} ${object.metadata?.name}: ${instancePath || "it"} ${message}${key}`;
    });
  };
}

function read(file: string): Readonly<Record<string, Definition>> {
  const text = readFileSync(path.join(ROOT, "test/fixtures/kubernetes", file), "utf8");
  return (JSON.parse(text) as { definitions: Readonly<Record<string, Definition>> }).definitions;
}
