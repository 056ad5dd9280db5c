/**
 * Lays what an administrator wants over a rendered Job. Maps are merged key by key, and containers
 * by their name. Volumes, ports and variables take the place of those of their name, mounts that of
 * theirs at the same path. `args` are added at the end, where of a flag that is given twice the
 * last one counts. Any other list and any value replaces what was rendered; `null` removes it.
 */

import type { V1Job } from "@kubernetes/client-node";
import { isMap } from "../../proto/read-yaml.ts";

/** A part of a Job, as job-template.ts has checked it. */
export type JobTemplate = Readonly<Record<string, unknown>>;

type Item = Readonly<Record<string, unknown>>;

/** What tells the items of a list apart, by the list's key. */
const ITEM_NAMES: Readonly<Record<string, string>> = {
  containers: "name",
  initContainers: "name",
  volumes: "name",
  ports: "name",
  env: "name",
  volumeMounts: "mountPath",
};
const MERGED_ITEMS = /^(c|initC)ontainers$/;

export function mergeTemplate(job: V1Job, template: JobTemplate): V1Job {
  return merge(job, template, "") as V1Job;
}

function merge(base: unknown, own: unknown, key: string): unknown {
  if (Array.isArray(own)) return Array.isArray(base) ? mergeLists(base, own, key) : own;
  if (!isMap(own)) return own;
  const merged: Record<string, unknown> = isMap(base) ? { ...base } : {};
  for (const [name, value] of Object.entries(own)) {
    if (value === null) delete merged[name];
    else merged[name] = merge(merged[name], value, name);
  }
  return merged;
}

function mergeLists(base: readonly Item[], own: readonly Item[], key: string): readonly unknown[] {
  if (key === "args") return [...base, ...own];
  const itemName = ITEM_NAMES[key];
  if (itemName === undefined) return own;
  const changed = base.map((item) => {
    const change = own.find((other) => other[itemName] === item[itemName]);
    if (change === undefined) return item;
    return MERGED_ITEMS.test(key) ? merge(item, change, "") : change;
  });
  const known = base.map((item) => item[itemName]);
  return [...changed, ...own.filter((item) => !known.includes(item[itemName]))];
}
