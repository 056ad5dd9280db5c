/**
 * A file of torch.save: a zip of `NAME/data.pkl`, which describes everything, and `NAME/data/KEY`,
 * the elements of one storage each. Only the first is read when it is opened.
 */

import { FleetError } from "../../../proto/errors.ts";
import { elementCount } from "../../../proto/model/model-plan.ts";
import { ELEMENT_TYPES, type TensorArray } from "../element-types.ts";
import type { InputFile } from "../input-file.ts";
import type { PickleStorage, PickleTensor, PickleValue } from "./pickle-values.ts";
import { unpickle } from "./unpickle.ts";
import { readZipEntries, readZipEntry, type ZipEntry } from "./zip-reader.ts";

/** Of data.pkl: configuration text and logged scalars may be long, tensors are not in it. */
const PICKLE_BYTES_MAX = 256 * 1024 * 1024;
const PICKLE = "/data.pkl";

export class TorchArchive {
  /** What was saved. */
  readonly root: PickleValue;
  readonly #file: InputFile;
  readonly #entries: ReadonlyMap<string, ZipEntry>;
  readonly #folder: string;
  readonly #storages = new Map<string, TensorArray>();
  /** How many elements may still be read: tensors that share them must not add up without end. */
  #elementsLeft: number;

  /** @throws {FleetError} CHECKPOINT_INVALID saying what is wrong with the file */
  constructor(file: InputFile) {
    this.#file = file;
    this.#elementsLeft = file.bytes;
    this.#entries = readZipEntries(file);
    this.#folder = findFolder([...this.#entries.keys()]);
    this.#checkByteOrder();
    const { bytes } = this.#entry(PICKLE);
    if (bytes > PICKLE_BYTES_MAX) throw invalid(`its data.pkl has ${bytes} bytes`);
    this.root = unpickle(this.#read(PICKLE));
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
    const path = `/data/${key}`;
    const { bytes } = this.#entry(path);
    const expected = elements * ELEMENT_TYPES[dtype].bytes;
    if (bytes !== expected) {
      throw invalid(`${name}: ${elements} of ${dtype} are ${expected} bytes, not ${bytes}`);
    }
    const values = ELEMENT_TYPES[dtype].decode(this.#read(path).buffer);
    this.#storages.set(`${of} ${key}`, values);
    return values;
  }

  /** Files from before PyTorch 2.1 do not say; they are from little-endian machines. */
  #checkByteOrder(): void {
    const path = `${this.#folder}/byteorder`;
    if (!this.#entries.has(path)) return;
    const order = Buffer.from(this.#read("/byteorder")).toString("utf8");
    if (order !== "little") throw invalid(`its byte order is ${JSON.stringify(order)}, not little`);
  }

  #read(path: string): Uint8Array<ArrayBuffer> {
    return readZipEntry(this.#file, this.#entry(path));
  }

  #entry(path: string): ZipEntry {
    const entry = this.#entries.get(`${this.#folder}${path}`);
    if (!entry) throw invalid(`its zip has no ${JSON.stringify(`${this.#folder}${path}`)}`);
    return entry;
  }
}

/** The one folder in the zip, named for the file when it was written. */
function findFolder(names: readonly string[]): string {
  const folders = names
    .filter((name) => name.endsWith(PICKLE))
    .map((name) => name.slice(0, -PICKLE.length));
  const folder = folders.find((name) => !name.includes("/"));
  if (folder === undefined)
    throw invalid("its zip has no data.pkl, so torch.save did not write it");
  if (names.includes(`${folder}/constants.pkl`)) {
    throw invalid("it is a TorchScript program; save its state_dict() with torch.save");
  }
  return folder;
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
