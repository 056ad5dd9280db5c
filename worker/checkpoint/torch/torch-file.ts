/** What torch.save wrote, in either of its formats: data, and tensors that are read on demand. */

import { FleetError } from "../../../proto/errors.ts";
import { elementCount } from "../../../proto/model/model-plan.ts";
import { ELEMENT_TYPES, type TensorArray } from "../element-types.ts";
import type { InputFile } from "../input-file.ts";
import { openLegacy } from "./legacy-format.ts";
import type { PickleStorage, PickleTensor, PickleValue } from "./pickle-values.ts";
import type { SavedContents } from "./saved-contents.ts";
import { openArchive } from "./zip-archive.ts";

const ZIP_MAGIC = "PK\x03\x04";

export class TorchFile {
  readonly root: PickleValue;
  readonly #contents: SavedContents;
  readonly #storages = new Map<string, TensorArray>();
  /** How many elements may still be read: tensors that share them must not add up without end. */
  #elementsLeft: number;

  /** @throws {FleetError} CHECKPOINT_INVALID saying what is wrong with the file */
  constructor(file: InputFile) {
    const magic = Buffer.from(file.read(0, Math.min(4, file.bytes))).toString("latin1");
    this.#contents = magic === ZIP_MAGIC ? openArchive(file) : openLegacy(file);
    this.root = this.#contents.root;
    this.#elementsLeft = file.bytes;
  }

  /**
   * The elements of a tensor, row-major. They may be a view of what other tensors share.
   *
   * @param name for error messages
   * @throws {FleetError} CHECKPOINT_INVALID when it reaches beyond its storage
   */
  readTensor(name: string, { storage, offset, shape, strides }: PickleTensor): TensorArray {
    const count = elementCount(shape);
    const last = shape.reduce((at, size, axis) => at + (size - 1) * (strides[axis] ?? 0), offset);
    const isInside = count === 0 || (count <= storage.elements && last < storage.elements);
    if (shape.length !== strides.length || !isInside) {
      const sizes = `[${shape.join(", ")}] with strides [${strides.join(", ")}] at ${offset}`;
      throw invalid(`${name}: ${sizes} does not fit into ${storage.elements} elements`);
    }
    this.#elementsLeft -= count;
    if (this.#elementsLeft < 0) throw invalid("its tensors have more elements than it has bytes");
    const elements = this.#readStorage(name, storage);
    if (isContiguous(shape, strides)) {
      return count === elements.length ? elements : elements.slice(offset, offset + count);
    }
    return gather(elements, offset, shape, strides);
  }

  #readStorage(name: string, { key, dtype, of, elements }: PickleStorage): TensorArray {
    const known = this.#storages.get(`${of} ${key}`);
    if (known?.length === elements) return known;
    if (!dtype) throw invalid(`${name} is of type ${of}, which cannot be read`);
    const stored = this.#contents.locate(key);
    const expected = elements * ELEMENT_TYPES[dtype].bytes;
    if (stored.bytes !== expected) {
      throw invalid(`${name}: ${elements} of ${dtype} are ${expected} bytes, not ${stored.bytes}`);
    }
    const values = ELEMENT_TYPES[dtype].decode(stored.read().buffer);
    this.#storages.set(`${of} ${key}`, values);
    return values;
  }
}

function isContiguous(shape: readonly number[], strides: readonly number[]): boolean {
  let expected = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (shape[axis] !== 1 && strides[axis] !== expected) return false;
    expected *= shape[axis]!;
  }
  return true;
}

/** Copies a strided window, the last axis fastest. Its bounds were checked. */
function gather(
  elements: TensorArray,
  offset: number,
  shape: readonly number[],
  strides: readonly number[],
): TensorArray {
  const count = elementCount(shape);
  const gathered = elements.slice(0, count);
  const index = shape.map(() => 0);
  let from = offset;
  for (let to = 0; to < count; to++) {
    gathered[to] = elements[from]!;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      from += strides[axis]!;
      index[axis]! += 1;
      if (index[axis]! < shape[axis]!) break;
      from -= strides[axis]! * shape[axis]!;
      index[axis] = 0;
    }
  }
  return gathered;
}

function invalid(reason: string): FleetError {
  return new FleetError("CHECKPOINT_INVALID", reason);
}
