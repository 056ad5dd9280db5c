/**
 * Reads `--template FILE`: a part of a Job in YAML, for what a cluster wants otherwise than it is
 * rendered, e.g. its own image, node selector or claims. Every key is looked up in the types of the
 * Kubernetes client, so that a mistyped one is found here and not in a pod that never starts.
 */

import * as models from "@kubernetes/client-node";
import { FleetError } from "../../proto/errors.ts";
import { isMap, readYaml } from "../../proto/read-yaml.ts";
import { nearestKey } from "../../proto/recipe-keys.ts";
import type { JobTemplate } from "./merge-template.ts";
import { WORKER_CONTAINER } from "./worker-pod.ts";

type Report = (path: string, problem: string) => void;

interface Attribute {
  readonly baseName: string;
  readonly type: string;
}

/** What follows from the recipe, or what the fleet relies on. */
const RENDERED = new Set([
  "metadata.name",
  "metadata.namespace",
  "spec.completionMode",
  "spec.completions",
  "spec.manualSelector",
  "spec.parallelism",
  "spec.selector",
  "spec.suspend",
  "spec.template.spec.hostname",
  "spec.template.spec.restartPolicy",
  "spec.template.spec.subdomain",
]);
const PROBLEMS_MAX = 10;

/**
 * @param file name for error messages
 * @throws {FleetError} USAGE naming every problem
 */
export function parseJobTemplate(text: string, file: string): JobTemplate {
  const { content } = readYaml(text, file, usage);
  const template = content ?? {};
  if (!isMap(template)) throw usage(`${file} must be a YAML map: a part of a Job`);
  const problems: string[] = [];
  const report: Report = (path, problem) => problems.push(`${path || "it"} ${problem}`);
  checkValue(template, "V1Job", "", report);
  if (problems.length === 0) checkMeaning(template, report);
  if (problems.length === 0) return template;
  const more = problems.length > PROBLEMS_MAX ? ["..."] : [];
  throw usage(`${file}: ${[...problems.slice(0, PROBLEMS_MAX), ...more].join("; ")}`);
}

/** `null` is allowed everywhere: it removes what was rendered. */
function checkValue(value: unknown, type: string, path: string, report: Report): void {
  if (value === null) return;
  const item = /^Array<(.*)>$/.exec(type)?.[1];
  const entry = /^\{ \[key: string\]: (.*); \}$/.exec(type)?.[1];
  if (item !== undefined) {
    if (!Array.isArray(value)) report(path, "must be a list");
    else for (const [i, each] of value.entries()) checkValue(each, item, `${path}[${i}]`, report);
    return;
  }
  const attributes = attributesOf(type);
  if (entry === undefined && attributes === undefined) {
    if (!isOfType(value, type)) report(path, `must be ${PRIMITIVES[type]?.name ?? type}`);
    return;
  }
  if (typeof value !== "object" || Array.isArray(value)) {
    report(path, "must be a map");
    return;
  }
  for (const [key, each] of Object.entries(value)) {
    const inner = path === "" ? key : `${path}.${key}`;
    const known = attributes?.find(({ baseName }) => baseName === key);
    const innerType = entry ?? known?.type;
    if (innerType !== undefined) checkValue(each, innerType, inner, report);
    else report(inner, `is unknown${didYouMean(key, attributes ?? [])}`);
  }
}

const PRIMITIVES: Readonly<Record<string, { readonly name: string; readonly types: string[] }>> = {
  string: { name: "a string: quote it", types: ["string"] },
  Date: { name: "a string: quote it", types: ["string"] },
  number: { name: "a number", types: ["number"] },
  boolean: { name: "true or false", types: ["boolean"] },
  IntOrString: { name: "a number or a string", types: ["number", "string"] },
};

function isOfType(value: unknown, type: string): boolean {
  return PRIMITIVES[type]?.types.includes(typeof value) ?? true;
}

/** Undefined for what is no map. */
function attributesOf(type: string): readonly Attribute[] | undefined {
  const model = (models as Readonly<Record<string, unknown>>)[type] as
    | { readonly getAttributeTypeMap?: () => readonly Attribute[] }
    | undefined;
  return model?.getAttributeTypeMap?.();
}

function didYouMean(key: string, attributes: readonly Attribute[]): string {
  const names = attributes.map(({ baseName }) => baseName);
  const nearest = nearestKey(key, names);
  return nearest === undefined ? "" : ` (nearest: ${nearest})`;
}

/** What the types allow, and a worker's Job does not. */
function checkMeaning(template: JobTemplate, report: Report): void {
  const { apiVersion = "batch/v1", kind = "Job" } = template;
  if (apiVersion !== "batch/v1" || kind !== "Job") report("it", "must be a Job of batch/v1");
  for (const path of RENDERED) {
    if (valueAt(template, path.split(".")) !== undefined) report(path, "is not for a template");
  }
  const containers = valueAt(template, ["spec", "template", "spec", "containers"]) ?? [];
  for (const { name, image, command } of containers as readonly models.V1Container[]) {
    const path = `spec.template.spec.containers: ${name ?? "one"}`;
    if (name === undefined) report(path, "has no name");
    else if (name !== WORKER_CONTAINER && image === undefined) {
      report(path, `has no image; the worker's is called ${WORKER_CONTAINER}`);
    }
    if (name === WORKER_CONTAINER && command) report(path, "cannot have another command");
  }
}

function valueAt(value: unknown, [key, ...rest]: readonly string[]): unknown {
  if (key === undefined) return value;
  if (typeof value !== "object" || value === null) return undefined;
  return valueAt((value as Readonly<Record<string, unknown>>)[key], rest);
}

function usage(message: string, cause?: unknown): FleetError {
  return new FleetError("USAGE", message, {}, cause);
}
