/** Exports weights to a file that PyTorch programs read: .pth of torch.save, or .safetensors. */

import { existsSync } from "node:fs";
import path from "node:path";
import { type WrittenFile, writeAtomically } from "../../proto/durable-file.ts";
import { FleetError } from "../../proto/errors.ts";
import type { NamedTensors } from "../model/model-state.ts";
import { withTracked } from "./checkpoint-store.ts";
import { writeModelNote } from "./model-note.ts";
import { nameMismatch, publishedName } from "./published-name.ts";
import type { Weights } from "./read-weights.ts";
import { encodeSafetensors, type SafetensorsTensor } from "./safetensors.ts";
import type { Picklable } from "./torch/pickle-writer.ts";
import { torchChunks } from "./torch/write-torch.ts";
import { type ExportStyle, exportName } from "./weight-names.ts";

export interface ExportOptions {
  readonly style: ExportStyle;
  /** Puts the beginning of the file's SHA-256 into its name. */
  readonly publish: boolean;
  readonly overwrite: boolean;
}

export interface ExportedFile extends WrittenFile {
  readonly path: string;
  /** How many it has, num_batches_tracked included. */
  readonly tensors: number;
  /** Names of those that have no place in the style. */
  readonly leftOut: readonly string[];
}

/** What a file says beside its tensors. */
type Origin = Pick<Weights, "batchesTracked" | "classes" | "metadata" | "model" | "imageInput">;

const FORMATS = [".pth", ".safetensors"];

/**
 * Writes `tensors`, in their order and with num_batches_tracked, to `file`.
 *
 * @returns where and what was written
 * @throws {FleetError} USAGE for another ending, or a file that is there already; STORAGE_FAILED
 */
export function writeWeights(
  file: string,
  tensors: NamedTensors,
  origin: Origin,
  { style, publish, overwrite }: ExportOptions,
): ExportedFile {
  const format = path.extname(file);
  if (!FORMATS.includes(format)) {
    throw new FleetError("USAGE", `${file}: must end in ${FORMATS.join(" or ")}`);
  }
  const checkFree = (place: string): void => {
    if (overwrite || !existsSync(place)) return;
    throw new FleetError("USAGE", `${place} exists already; --force overwrites it`);
  };
  if (!publish) checkFree(file);
  const { named, leftOut } = rename(withTracked(tensors, origin.batchesTracked), style);
  const chunks =
    format === ".pth"
      ? torchChunks(named, style === "torchvision" ? undefined : torchMeta(origin))
      : [encodeSafetensors(named, textMetadata(origin))];
  const written = writeAtomically(file, chunks, ({ sha256 }) => {
    const place = publish ? publishedName(file, sha256) : file;
    const mismatch = nameMismatch(place, sha256);
    if (mismatch !== undefined) throw new FleetError("USAGE", `${place}: ${mismatch}`);
    checkFree(place);
    return place;
  });
  return { ...written, tensors: named.size, leftOut };
}

function rename(
  tensors: ReadonlyMap<string, SafetensorsTensor>,
  style: ExportStyle,
): { readonly named: Map<string, SafetensorsTensor>; readonly leftOut: string[] } {
  const named = new Map<string, SafetensorsTensor>();
  const leftOut: string[] = [];
  for (const [name, tensor] of tensors) {
    const exported = exportName(name, style);
    if (exported === undefined) leftOut.push(name);
    else named.set(exported, tensor);
  }
  return { named, leftOut };
}

/** As mmengine's runner has it: epoch and iter, the experiment, the data set's classes. */
function torchMeta({ metadata, classes, ...noted }: Origin): Map<string, Picklable> {
  const { epoch = 0, iter = metadata["step"] ?? 0, recipe, ...rest } = metadata;
  const experiment = metadata["experiment_name"] ?? recipe;
  return new Map<string, Picklable>([
    ["epoch", typeof epoch === "number" ? Math.floor(epoch) : epoch],
    ["iter", iter],
    ...(experiment === undefined ? [] : [["experiment_name", experiment] as const]),
    ...Object.entries(rest).filter(([key]) => key !== "experiment_name"),
    ...Object.entries(writeModelNote(noted)),
    ...(classes ? [["dataset_meta", new Map([["classes", classes]])] as const] : []),
  ]);
}

function textMetadata({ metadata, classes, ...noted }: Origin): Record<string, string> {
  const texts = Object.entries(metadata).map(([key, value]) => [key, String(value)]);
  return {
    ...Object.fromEntries(texts),
    ...writeModelNote(noted),
    ...(classes ? { classes: JSON.stringify(classes) } : {}),
    format: "pt",
  };
}
