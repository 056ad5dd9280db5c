/** Reads a folder of reference cases: `<name>.json`, with tensors in `<name>.safetensors`. */

import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { z } from "zod";
import { FleetError } from "../../proto/errors.ts";
import { decodeSafetensors, type SafetensorsTensor } from "../checkpoint/safetensors.ts";

const byParameter = <T extends z.ZodType>(value: T) => z.record(z.string(), value);
const finite = z.number();
const count = z.int().positive();

const modelSchema = z.object({
  seed: z.int(),
  case: z.string(),
  depth: z.union([z.literal(18), z.literal(34), z.literal(50), z.literal(101)]),
  width: z.number().positive(),
  stem: z.enum(["imagenet", "cifar"]),
  images: count,
  size: count,
  temperature: z.number().positive(),
  lr: z.number().positive(),
  weightDecay: z.number().nonnegative(),
  steps: z
    .array(
      z.object({
        loss: finite,
        gradNorm: byParameter(finite),
        gradHead: byParameter(z.array(finite)),
        weightNormAfter: byParameter(finite),
        runningMeanNorm: byParameter(finite),
        runningVarNorm: byParameter(finite),
      }),
    )
    .min(1),
});

const ntXentSchema = z.object({
  world: count,
  imagesPerWorker: count,
  dim: count,
  temperature: z.number().positive(),
  loss: finite,
});

/** By name, e.g. `pretrain200`: pairs of iteration and learning rate. */
const schedulesSchema = z.record(z.string(), z.array(z.tuple([z.int().nonnegative(), finite])));

const boxSchema = z.object({
  x: z.int(),
  y: z.int(),
  width: count,
  height: count,
  size: count,
});
const augmentSchema = z.record(z.string(), z.union([finite, z.string(), boxSchema]));

export type ModelCase = z.output<typeof modelSchema>;
export type NtXentCase = z.output<typeof ntXentSchema>;
export type SchedulesCase = z.output<typeof schedulesSchema>;
export type AugmentCase = z.output<typeof augmentSchema>;

export type GoldenTensors = ReadonlyMap<string, SafetensorsTensor>;

export type GoldenCase =
  | { readonly kind: "model"; readonly spec: ModelCase; readonly tensors: GoldenTensors }
  | { readonly kind: "ntxent"; readonly spec: NtXentCase; readonly tensors: GoldenTensors }
  | { readonly kind: "schedules"; readonly spec: SchedulesCase }
  | { readonly kind: "augment"; readonly spec: AugmentCase; readonly tensors: GoldenTensors };

/**
 * Names of the cases in `folder`, without `.json`.
 * @throws {FleetError} NOT_FOUND when there is no such folder, or no case in it
 */
export function listCases(folder: string): readonly string[] {
  let files: readonly string[];
  try {
    files = readdirSync(folder);
  } catch (thrown) {
    throw new FleetError("NOT_FOUND", `folder ${folder} cannot be read`, {}, thrown);
  }
  const names = files.flatMap((file) => (file.endsWith(".json") ? [file.slice(0, -5)] : []));
  if (names.length === 0) throw new FleetError("NOT_FOUND", `no reference case in ${folder}`);
  return names.sort();
}

/**
 * Reads a case and tells its kind by what it holds.
 * @throws {FleetError} DATA_INVALID when it is of no known kind or not whole
 */
export function readCase(folder: string, name: string): GoldenCase {
  const json = readJson(path.join(folder, `${name}.json`));
  const tensors = () => readTensors(path.join(folder, `${name}.safetensors`));
  if (has(json, "steps")) {
    return { kind: "model", spec: parse(modelSchema, json, name), tensors: tensors() };
  }
  if (has(json, "world")) {
    return { kind: "ntxent", spec: parse(ntXentSchema, json, name), tensors: tensors() };
  }
  const schedules = schedulesSchema.safeParse(onlyParameters(json));
  if (schedules.success) return { kind: "schedules", spec: schedules.data };
  return { kind: "augment", spec: parse(augmentSchema, json, name), tensors: tensors() };
}

/**
 * The tensor `name` of a case in float64.
 * @throws {FleetError} DATA_INVALID when it is missing
 */
export function requireTensor(
  tensors: GoldenTensors,
  name: string,
): { readonly shape: readonly number[]; readonly data: ArrayLike<number> } {
  const tensor = tensors.get(name);
  if (!tensor || tensor.data instanceof BigInt64Array) {
    throw new FleetError("DATA_INVALID", `the case has no tensor of numbers called ${name}`);
  }
  return { shape: tensor.shape, data: tensor.data };
}

function readJson(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch (thrown) {
    const reason = FleetError.from(thrown).message;
    throw new FleetError("DATA_INVALID", `${file} cannot be read: ${reason}`, {}, thrown);
  }
}

function readTensors(file: string): GoldenTensors {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(file);
  } catch (thrown) {
    throw new FleetError("DATA_INVALID", `${file} cannot be read`, {}, thrown);
  }
  return decodeSafetensors(bytes).tensors;
}

function parse<T extends z.ZodType>(schema: T, json: unknown, name: string): z.output<T> {
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const at = issue?.path.join(".") || name;
  throw new FleetError(
    "DATA_INVALID",
    `${name}.json is no reference case: ${at}: ${issue?.message}`,
  );
}

function has(json: unknown, key: string): boolean {
  return typeof json === "object" && json !== null && Object.hasOwn(json, key);
}

/** Without the entries that say which case it is. */
function onlyParameters(json: unknown): unknown {
  if (typeof json !== "object" || json === null) return json;
  return Object.fromEntries(
    Object.entries(json).filter(([key]) => key !== "seed" && key !== "case"),
  );
}
