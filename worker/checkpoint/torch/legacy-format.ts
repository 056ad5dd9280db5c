/**
 * The format of torch.save before 1.6, in which mmselfsup published its models later, too: five
 * pickles one after the other (magic number, version, system, what was saved, keys of the
 * storages), then for each key the number of its elements in 8 bytes and the elements.
 */

import { FleetError } from "../../../proto/errors.ts";
import { ELEMENT_TYPES } from "../element-types.ts";
import type { InputFile } from "../input-file.ts";
import { PickleInput } from "./pickle-input.ts";
import type { PickleStorage } from "./pickle-values.ts";
import { printable } from "./printable.ts";
import type { SavedContents, StoredBytes } from "./saved-contents.ts";
import { unpickle } from "./unpickle.ts";

const MAGIC_NUMBER = 0x1950a86a20f9469cfc6cn;
const VERSION = 1001;
const COUNT_BYTES = 8;

/** @throws {FleetError} CHECKPOINT_INVALID saying what is wrong with the file */
export function openLegacy(file: InputFile): SavedContents {
  const input = new PickleInput(file);
  if (unpickle(input).value !== MAGIC_NUMBER) {
    throw invalid("it is a bare pickle; save tensors with torch.save or as .safetensors");
  }
  if (unpickle(input).value !== VERSION) throw invalid("it has an unknown version");
  const system = unpickle(input).value;
  if (!(system instanceof Map) || system.get("little_endian") !== true) {
    throw invalid("its byte order is not little-endian");
  }
  const { value: root, storages } = unpickle(input);
  const keys = unpickle(input).value;
  if (!Array.isArray(keys)) throw invalid("the list of its storages is damaged");
  const located = new Map<string, StoredBytes>();
  let at = input.position;
  for (const key of keys) {
    const storage = typeof key === "string" ? storages.get(key) : undefined;
    if (!storage || located.has(storage.key)) throw invalid("the list of its storages is damaged");
    const bytes = storedBytes(file, at, storage);
    const begin = at + COUNT_BYTES;
    at = begin + bytes;
    if (at > file.bytes) throw invalid(`it is cut off: it has ${file.bytes} bytes, not ${at}`);
    located.set(storage.key, { bytes, read: () => file.read(begin, bytes) });
  }
  return {
    root,
    locate: (key) => {
      const found = located.get(key);
      if (!found) throw invalid(`it has no storage ${JSON.stringify(key)}`);
      return found;
    },
  };
}

/** Checks the number of elements at `at` against what the pickle says, and gives their bytes. */
function storedBytes(file: InputFile, at: number, storage: PickleStorage): number {
  const { key, dtype, of, elements } = storage;
  if (!dtype) throw invalid(`its storage ${printable(key)} is of type ${of}, which cannot be read`);
  const count = Buffer.from(file.read(at, COUNT_BYTES).buffer).readBigInt64LE();
  if (count === BigInt(elements)) return elements * ELEMENT_TYPES[dtype].bytes;
  throw invalid(`its storage ${printable(key)} has ${count} elements, not ${elements}`);
}

function invalid(reason: string): FleetError {
  return new FleetError("CHECKPOINT_INVALID", reason);
}
