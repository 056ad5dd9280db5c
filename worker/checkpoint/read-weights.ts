/**
 * A model's weights from whatever file has them: one of torch.save (.pth, .pt), .safetensors, or a
 * checkpoint folder of ours. What it is, is told by its contents; the names become ours.
 */

import { statSync } from "node:fs";
import { FleetError } from "../../proto/errors.ts";
import type { InputRecipe } from "../../proto/model/input-view.ts";
import type { ModelRecipe } from "../../proto/recipe.ts";
import type { HostTensor, NamedTensors } from "../model/model-state.ts";
import { readModel } from "./checkpoint-store.ts";
import { type TensorArray, toFloats } from "./element-types.ts";
import { InputFile } from "./input-file.ts";
import { MODEL_NOTE, readModelNote } from "./model-note.ts";
import { naming } from "./naming.ts";
import { checkPublishedName } from "./published-name.ts";
import { decodeSafetensors } from "./safetensors.ts";
import { printable } from "./torch/printable.ts";
import { findStateDict, readMeta } from "./torch/state-dict.ts";
import { TorchFile } from "./torch/torch-file.ts";
import { canonicalNames, type NamingStyle } from "./weight-names.ts";

export interface Weights {
  /** By canonical name, in the file's order, without num_batches_tracked. */
  readonly tensors: NamedTensors;
  /** The largest num_batches_tracked; 0 when there is none. */
  readonly batchesTracked: number;
  readonly format: "torch" | "safetensors" | "checkpoint";
  readonly style: NamingStyle;
  /** Names of the classes that the model's head tells apart, where the file has them. */
  readonly classes: readonly string[] | undefined;
  /** The run's model and how it prepares images, as only files of ours say. */
  readonly model?: ModelRecipe;
  readonly imageInput?: InputRecipe;
  /** Short figures and texts about the run that made it, e.g. epoch. */
  readonly metadata: Readonly<Record<string, string | number>>;
}

/** As a file has them, before names and types are made uniform. */
interface RawWeights extends Omit<Weights, "tensors" | "batchesTracked" | "style"> {
  readonly tensors: ReadonlyMap<string, RawTensor>;
}

interface RawTensor {
  readonly shape: readonly number[];
  readonly data: TensorArray;
}

const TRACKED = ".num_batches_tracked";
const TRACKED_MAX = 2 ** 47;
/** A zip's first record, or a pickle's first opcode. */
const TORCH_MAGICS = ["PK\x03\x04", "\x80"];
/** Behind the header's length stands its JSON. */
const SAFETENSORS_BRACE = 8;

/**
 * Reads the weights in the file or checkpoint folder `path`. Nothing in it is executed.
 *
 * @throws {FleetError} NOT_FOUND; CHECKPOINT_INVALID naming the file and what is wrong with it
 */
export function readWeights(path: string): Weights {
  return naming(path, () => {
    const { tensors, ...rest } = isFolder(path) ? readFolder(path) : readFile(path);
    const { style, named } = canonicalNames(tensors);
    return { ...rest, style, ...splitTracked(named) };
  });
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

function readFolder(folder: string): RawWeights {
  const { manifest, tensors } = readModel(folder);
  const { recipe, stage, step, epoch } = manifest;
  return {
    format: "checkpoint",
    tensors,
    classes: manifest.classes,
    ...(manifest.model && { model: manifest.model }),
    ...(manifest.input && { imageInput: manifest.input }),
    metadata: { recipe, stage, step, epoch },
  };
}

function readFile(path: string): RawWeights {
  const file = InputFile.open(path);
  try {
    checkPublishedName(file);
    const magic = Buffer.from(file.read(0, Math.min(9, file.bytes))).toString("latin1");
    if (magic[SAFETENSORS_BRACE] === "{") return readSafetensors(file);
    if (TORCH_MAGICS.some((start) => magic.startsWith(start))) return readTorch(file);
    throw new FleetError(
      "CHECKPOINT_INVALID",
      "it is neither a file of torch.save nor .safetensors",
    );
  } finally {
    file.close();
  }
}

function readTorch(file: InputFile): RawWeights {
  const saved = new TorchFile(file);
  const tensors = new Map<string, RawTensor>();
  for (const [name, tensor] of findStateDict(saved.root)) {
    tensors.set(name, { shape: tensor.shape, data: saved.readTensor(printable(name), tensor) });
  }
  const { metadata, classes, note } = readMeta(saved.root);
  return { format: "torch", tensors, metadata, classes, ...readModelNote(note) };
}

function readSafetensors(file: InputFile): RawWeights {
  const { tensors, metadata } = decodeSafetensors(file.read(0, file.bytes));
  const { classes, [MODEL_NOTE]: note, ...rest } = metadata;
  return {
    format: "safetensors",
    tensors,
    classes: parseClasses(classes),
    metadata: rest,
    ...readModelNote(note),
  };
}

/** What write-weights.ts writes; of other programs anything may stand there. */
function parseClasses(text: string | undefined): readonly string[] | undefined {
  try {
    const classes: unknown = JSON.parse(text ?? "");
    const isText = (value: unknown): value is string => typeof value === "string";
    return Array.isArray(classes) && classes.every(isText) ? classes : undefined;
  } catch {
    return undefined;
  }
}

function splitTracked(
  named: ReadonlyMap<string, RawTensor>,
): Pick<Weights, "tensors" | "batchesTracked"> {
  const tensors = new Map<string, HostTensor>();
  let batchesTracked = 0;
  for (const [name, { shape, data }] of named) {
    if (name.endsWith(TRACKED)) batchesTracked = Math.max(batchesTracked, countOf(data[0]));
    else tensors.set(name, { shape, data: toFloats(data) });
  }
  return { tensors, batchesTracked };
}

/** Of a damaged count nothing depends, so it is no reason to refuse the weights. */
function countOf(value: number | bigint | undefined): number {
  const count = Number(value);
  return count >= 0 && count <= TRACKED_MAX ? count : 0;
}
