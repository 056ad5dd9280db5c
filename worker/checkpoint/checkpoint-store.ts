/**
 * Checkpoints of one stage: a folder per checkpoint, `step-000001234/`, holding
 *
 *   model.safetensors      weights and running statistics, by their PyTorch names
 *   optimizer.safetensors  momentum of each parameter, by the parameter's name
 *   probe.safetensors      the online probe of pre-training, where there is one
 *   manifest.json          step, seed, sizes and SHA-256 of the other files
 *
 * A checkpoint is written into a temporary folder, flushed, and renamed: it is there whole or not
 * at all. `store-fence.ts` says whose store it is. Everything here is synchronous; checkpoints are
 * written on the checkpoint thread, and read where they are needed.
 */

import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import path from "node:path";
import {
  discard,
  flushFolder,
  storageError,
  type WrittenFile,
  writeDurably,
} from "../../proto/durable-file.ts";
import { FleetError } from "../../proto/errors.ts";
import type { HostTensor, NamedTensors } from "../model/model-state.ts";
import { type Manifest, manifestSchema } from "./manifest.ts";
import { decodeSafetensors, type SafetensorsTensor, safetensorsChunks } from "./safetensors.ts";
import { assertOwned, claimStore, unfinishedName } from "./store-fence.ts";

export interface Checkpoint {
  readonly manifest: Manifest;
  readonly model: NamedTensors;
  readonly optimizer: NamedTensors;
  readonly probe?: NamedTensors;
}

export interface CheckpointLocation {
  readonly folder: string;
  readonly manifest: Manifest;
}

const MODEL_FILE = "model.safetensors";
const OPTIMIZER_FILE = "optimizer.safetensors";
const PROBE_FILE = "probe.safetensors";
const MANIFEST_FILE = "manifest.json";
const FOLDER_PATTERN = /^step-(\d+)$/;
const TRACKED = ".num_batches_tracked";

/** A checkpoint before its files are. */
export interface Snapshot extends Omit<Checkpoint, "manifest"> {
  readonly manifest: Omit<Manifest, "files"> & { readonly generation: number };
}

/**
 * Claims the store for the snapshot's generation, writes a checkpoint, and removes the oldest
 * beyond `keep`.
 *
 * @returns its folder, and how many bytes are in it
 * @throws {FleetError} STORAGE_FAILED when the disk is full or the folder is not writable,
 *   GENERATION_ABORTED when the store belongs to a higher generation
 */
export function saveCheckpoint(
  store: string,
  snapshot: Snapshot,
  keep: number,
): { readonly folder: string; readonly bytes: number } {
  const { step, generation } = snapshot.manifest;
  const folder = path.join(store, `step-${String(step).padStart(9, "0")}`);
  const temporary = path.join(store, unfinishedName(path.basename(folder), generation));
  return onStore(store, { step, generation }, () => {
    try {
      claimStore(store, generation);
      rmSync(temporary, { recursive: true, force: true });
      mkdirSync(temporary);
      const bytes = writeFiles(temporary, snapshot);
      assertOwned(store, generation);
      replaceFolder(folder, temporary);
      flushFolder(store);
      for (const old of listFolders(store).slice(keep)) discard(path.join(store, old.name));
      return { folder, bytes };
    } catch (thrown) {
      discard(temporary);
      throw thrown;
    }
  });
}

/**
 * Claims a store before there is a checkpoint to write.
 *
 * @throws {FleetError} STORAGE_FAILED; GENERATION_ABORTED when it belongs to a higher generation
 */
export function openStore(store: string, generation: number): void {
  onStore(store, { generation }, () => claimStore(store, generation));
}

/**
 * Step of the newest checkpoint that looks whole: its manifest can be read, and its files have the
 * lengths that are said there. What is in them may turn out to be damaged. 0 when there is none.
 */
export function newestCheckpointStep(store: string): number {
  for (const { name } of listFolders(store)) {
    const folder = path.join(store, name);
    try {
      const { files, step } = readManifest(folder);
      const isWhole = Object.entries(files).every(
        ([file, { bytes }]) => statSync(path.join(folder, file)).size === bytes,
      );
      if (isWhole) return step;
    } catch {
      // Whoever reads it says what is wrong with it.
    }
  }
  return 0;
}

/**
 * The newest checkpoint in `store` whose files are whole. Damaged ones are reported and passed
 * over.
 *
 * @param onDamaged gets the folder and what is wrong with it
 */
export function findCheckpoint(
  store: string,
  onDamaged: (folder: string, reason: string) => void,
): CheckpointLocation | undefined {
  for (const { name } of listFolders(store)) {
    const folder = path.join(store, name);
    try {
      const manifest = readManifest(folder);
      for (const file of Object.keys(manifest.files)) readVerified(folder, file, manifest);
      return { folder, manifest };
    } catch (thrown) {
      onDamaged(folder, FleetError.from(thrown).message);
    }
  }
  return undefined;
}

/**
 * Reads a checkpoint folder.
 *
 * @throws {FleetError} CHECKPOINT_INVALID naming the file and what is wrong with it
 */
export function readCheckpoint(folder: string): Checkpoint {
  const manifest = readManifest(folder);
  return {
    manifest,
    model: floatTensors(folder, MODEL_FILE, manifest),
    optimizer: floatTensors(folder, OPTIMIZER_FILE, manifest),
    ...(PROBE_FILE in manifest.files && { probe: floatTensors(folder, PROBE_FILE, manifest) }),
  };
}

/**
 * Reads the model of a checkpoint folder alone, with num_batches_tracked.
 *
 * @throws {FleetError} CHECKPOINT_INVALID naming the file and what is wrong with it
 */
export function readModel(folder: string): {
  readonly manifest: Manifest;
  readonly tensors: ReadonlyMap<string, SafetensorsTensor>;
} {
  const manifest = readManifest(folder);
  const { tensors } = decodeSafetensors(readVerified(folder, MODEL_FILE, manifest));
  return { manifest, tensors };
}

/** Writes all files of a checkpoint, the manifest last, and returns their bytes. */
function writeFiles(folder: string, { manifest, model, optimizer, probe }: Snapshot): number {
  const write = (file: string, tensors: NamedTensors, tracked?: number): WrittenFile =>
    writeDurably(path.join(folder, file), safetensorsChunks(withTracked(tensors, tracked)));
  const files = {
    [MODEL_FILE]: write(MODEL_FILE, model, manifest.batchesTracked),
    [OPTIMIZER_FILE]: write(OPTIMIZER_FILE, optimizer),
    ...(probe && { [PROBE_FILE]: write(PROBE_FILE, probe) }),
  };
  const text = `${JSON.stringify({ ...manifest, files }, undefined, 2)}\n`;
  const written = writeDurably(path.join(folder, MANIFEST_FILE), [Buffer.from(text)]);
  flushFolder(folder);
  return [written, ...Object.values(files)].reduce((sum, { bytes }) => sum + bytes, 0);
}

/** Puts `fresh` in the place of `folder`, of which there may be one from a run before. */
function replaceFolder(folder: string, fresh: string): void {
  const old = `${fresh}-old`;
  if (existsSync(folder)) renameSync(folder, old);
  renameSync(fresh, folder);
  discard(old);
}

/** Whatever goes wrong in a store that another generation owns goes wrong because of that. */
function onStore<Result>(
  store: string,
  of: { readonly step?: number; readonly generation: number },
  action: () => Result,
): Result {
  try {
    return action();
  } catch (thrown) {
    assertOwned(store, of.generation);
    const what = `checkpoints cannot be written to ${store}`;
    throw storageError(what, thrown, { ...of, folder: store });
  }
}

/** Folders of checkpoints, newest first. */
function listFolders(store: string): { readonly name: string; readonly step: number }[] {
  let names: string[];
  try {
    names = readdirSync(store);
  } catch {
    // A stage that has not written a checkpoint yet has no folder.
    return [];
  }
  return names
    .flatMap((name) => {
      const match = FOLDER_PATTERN.exec(name);
      return match ? [{ name, step: Number(match[1]) }] : [];
    })
    .sort((a, b) => b.step - a.step);
}

function readManifest(folder: string): Manifest {
  const file = path.join(folder, MANIFEST_FILE);
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (thrown) {
    const [newest] = listFolders(folder);
    const hint = newest ? `; the newest checkpoint in it is ${newest.name}` : "";
    const problem = `${folder} has no ${MANIFEST_FILE}${hint}`;
    throw new FleetError("CHECKPOINT_INVALID", problem, {}, thrown);
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (thrown) {
    throw new FleetError("CHECKPOINT_INVALID", `${file} is not JSON`, {}, thrown);
  }
  const parsed = manifestSchema.safeParse(json);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new FleetError(
    "CHECKPOINT_INVALID",
    `${file}: ${issue?.path.join(".") || "manifest"}: ${issue?.message}`,
  );
}

function readVerified(folder: string, name: string, manifest: Manifest): Buffer {
  const file = path.join(folder, name);
  const expected = manifest.files[name];
  if (!expected) throw new FleetError("CHECKPOINT_INVALID", `${folder}: manifest lacks ${name}`);
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (thrown) {
    throw new FleetError("CHECKPOINT_INVALID", `${file} cannot be read`, {}, thrown);
  }
  if (bytes.length !== expected.bytes) {
    throw new FleetError(
      "CHECKPOINT_INVALID",
      `${file} has ${bytes.length} bytes, its manifest says ${expected.bytes}`,
    );
  }
  if (sha256(bytes) !== expected.sha256) {
    throw new FleetError("CHECKPOINT_INVALID", `${file} does not match its SHA-256`);
  }
  return bytes;
}

function floatTensors(folder: string, name: string, manifest: Manifest): NamedTensors {
  const { tensors } = decodeSafetensors(readVerified(folder, name, manifest));
  const floats = new Map<string, HostTensor>();
  for (const [key, tensor] of tensors) {
    if (key.endsWith(TRACKED)) continue;
    if (!(tensor.data instanceof Float32Array)) {
      throw new FleetError("CHECKPOINT_INVALID", `${folder}/${name}: ${key} is ${tensor.dtype}`);
    }
    floats.set(key, { shape: tensor.shape, data: tensor.data });
  }
  return floats;
}

/** Adds num_batches_tracked after each running_var, where PyTorch has it. */
export function withTracked(
  tensors: NamedTensors,
  tracked?: number | undefined,
): Map<string, SafetensorsTensor> {
  const result = new Map<string, SafetensorsTensor>();
  for (const [name, { shape, data }] of tensors) {
    result.set(name, { dtype: "F32", shape, data });
    if (tracked !== undefined && name.endsWith(".running_var")) {
      result.set(name.replace(/\.running_var$/, TRACKED), {
        dtype: "I64",
        shape: [],
        data: BigInt64Array.of(BigInt(tracked)),
      });
    }
  }
  return result;
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
