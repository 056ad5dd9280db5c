/** The state_dict in what torch.save wrote, and what its meta say, whoever wrote it. */

import { FleetError } from "../../../proto/errors.ts";
import { listFirst } from "../../../proto/model/match-tensors.ts";
import { MODEL_NOTE } from "../model-note.ts";
import { isStub, isTensor, type PickleTensor, type PickleValue } from "./pickle-values.ts";
import { printable } from "./printable.ts";

type PickleMap = ReadonlyMap<PickleValue, PickleValue>;

/** Where training programs keep it; at the top level it may stand by itself. */
const KEYS = ["state_dict", "model_state_dict", "model"] as const;
const TEXT_MAX = 200;

/**
 * Finds the tensors by name.
 *
 * @throws {FleetError} CHECKPOINT_INVALID when there are none
 */
export function findStateDict(root: PickleValue): ReadonlyMap<string, PickleTensor> {
  if (isStub(root)) throw wholeModel(root.of);
  if (!(root instanceof Map)) throw invalid("it holds neither a dict nor a state_dict");
  for (const key of KEYS) {
    const value = root.get(key);
    if (isStub(value)) throw wholeModel(value.of);
    if (value instanceof Map) return namedTensors(value, key);
  }
  return namedTensors(root, "the top level");
}

/** Figures and texts of mmengine's and others' meta, and the names of the classes. */
export function readMeta(root: PickleValue): {
  readonly metadata: Readonly<Record<string, string | number>>;
  readonly classes: readonly string[] | undefined;
  /** What files of ours say of the model, not parsed. */
  readonly note: PickleValue;
} {
  if (!(root instanceof Map)) return { metadata: {}, classes: undefined, note: undefined };
  const meta = asMap(root.get("meta")) ?? root;
  const metadata: Record<string, string | number> = {};
  for (const [key, value] of meta) {
    if (key === MODEL_NOTE) continue;
    const isShort = typeof value === "string" && value.length <= TEXT_MAX;
    if (typeof key === "string" && (typeof value === "number" || isShort)) metadata[key] = value;
  }
  const classes = asMap(meta.get("dataset_meta"))?.get("classes") ?? meta.get("CLASSES");
  const isText = (value: PickleValue): value is string => typeof value === "string";
  const areNames = Array.isArray(classes) && classes.length > 0 && classes.every(isText);
  const note = meta.get(MODEL_NOTE);
  return { metadata, classes: areNames ? (classes as string[]) : undefined, note };
}

function namedTensors(values: PickleMap, where: string): Map<string, PickleTensor> {
  const tensors = new Map<string, PickleTensor>();
  const strange: string[] = [];
  for (const [name, value] of values) {
    if (typeof name !== "string") continue;
    if (isTensor(value)) tensors.set(name, value);
    else if (isStub(value)) strange.push(`${printable(name)} is a ${value.of}`);
  }
  if (tensors.size > 0) return tensors;
  if (strange.length > 0) {
    throw invalid(`${where} has no tensors that can be read: ${listFirst(strange)}`);
  }
  const keys = [...values.keys()].flatMap((key) =>
    typeof key === "string" ? [printable(key)] : [],
  );
  throw invalid(`${where} has no tensors; its keys are ${listFirst(keys, 5, ", ") || "none"}`);
}

function asMap(value: PickleValue): PickleMap | undefined {
  return value instanceof Map ? value : undefined;
}

function wholeModel(name: string): FleetError {
  return invalid(`it holds an object of ${name}, not tensors; save the model's state_dict()`);
}

function invalid(reason: string): FleetError {
  return new FleetError("CHECKPOINT_INVALID", reason);
}
