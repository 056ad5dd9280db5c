/** A checkpoint in mmengine's form, as torch.save would write it. */

import { endianness } from "node:os";
import type { SafetensorsTensor } from "../safetensors.ts";
import { type Picklable, pickle, type SavedTensor } from "./pickle-writer.ts";
import { zipChunks } from "./zip-writer.ts";

const FOLDER = "archive";

/**
 * The chunks of a .pth file; the tensors are F32 or I64.
 *
 * @param meta stands beside the `state_dict`; without it that is all there is, as in torchvision's
 */
export function torchChunks(
  tensors: ReadonlyMap<string, SafetensorsTensor>,
  meta: ReadonlyMap<string, Picklable> | undefined,
): Generator<Uint8Array> {
  const saved = new Map<string, SavedTensor>();
  const storages = new Map<string, Uint8Array>();
  for (const [name, { shape, dtype, data }] of tensors) {
    const key = String(saved.size);
    const storage = dtype === "I64" ? "LongStorage" : "FloatStorage";
    saved.set(name, { type: "tensor", storage, key, shape });
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    storages.set(`${FOLDER}/data/${key}`, bytes);
  }
  const stateDict: Picklable = { type: "ordered-dict", items: saved };
  const root: Picklable = meta
    ? new Map<string, Picklable>([
        ["meta", meta],
        ["state_dict", stateDict],
      ])
    : stateDict;
  return zipChunks(
    new Map([
      [`${FOLDER}/data.pkl`, pickle(root)],
      [`${FOLDER}/byteorder`, Buffer.from(endianness() === "LE" ? "little" : "big")],
      ...storages,
      [`${FOLDER}/version`, Buffer.from("3\n")],
    ]),
  );
}
