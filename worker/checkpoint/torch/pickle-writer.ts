/** Writes the pickle of a torch.save: dicts, texts, numbers and tensors, of protocol 2. */

import { elementCount } from "../../../proto/model/model-plan.ts";
import { OPCODES as OP } from "./pickle-opcodes.ts";

/** Tuples are arrays, dicts Maps. Integers are those numbers that are whole. */
export type Picklable =
  | string
  | number
  | readonly Picklable[]
  | ReadonlyMap<string, Picklable>
  | OrderedDict
  | SavedTensor;

interface OrderedDict {
  readonly type: "ordered-dict";
  readonly items: ReadonlyMap<string, Picklable>;
}

/** A contiguous tensor that is all of its storage. */
export interface SavedTensor {
  readonly type: "tensor";
  /** Class of torch, e.g. FloatStorage. */
  readonly storage: string;
  /** Name of the storage's entry. */
  readonly key: string;
  readonly shape: readonly number[];
}

export function pickle(value: Picklable): Uint8Array {
  const output = new PickleOutput();
  output.op(OP.PROTO, 2);
  output.value(value);
  output.op(OP.STOP);
  return output.bytes();
}

class PickleOutput {
  readonly #chunks: Uint8Array[] = [];

  bytes(): Uint8Array {
    return Buffer.concat(this.#chunks);
  }

  op(...bytes: readonly number[]): void {
    this.#chunks.push(Uint8Array.from(bytes));
  }

  value(value: Picklable): void {
    if (typeof value === "string") this.#text(value);
    else if (typeof value === "number") this.#number(value);
    else if (isTuple(value)) this.#tuple(value);
    else if (value instanceof Map) this.#dict(value);
    else this.#object(value as OrderedDict | SavedTensor);
  }

  #text(text: string): void {
    const bytes = Buffer.from(text);
    const head = Buffer.alloc(5);
    head[0] = OP.BINUNICODE;
    head.writeUInt32LE(bytes.length, 1);
    this.#chunks.push(head, bytes);
  }

  #number(value: number): void {
    const bytes = Buffer.alloc(10);
    if ((value | 0) === value) {
      bytes[0] = OP.BININT;
      bytes.writeInt32LE(value, 1);
      this.#chunks.push(bytes.subarray(0, 5));
    } else if (Number.isSafeInteger(value)) {
      bytes[0] = OP.LONG1;
      bytes[1] = 8;
      bytes.writeBigInt64LE(BigInt(value), 2);
      this.#chunks.push(bytes);
    } else {
      bytes[0] = OP.BINFLOAT;
      bytes.writeDoubleBE(value, 1);
      this.#chunks.push(bytes.subarray(0, 9));
    }
  }

  #tuple(items: readonly Picklable[]): void {
    this.op(OP.MARK);
    for (const item of items) this.value(item);
    this.op(OP.TUPLE);
  }

  #dict(items: ReadonlyMap<string, Picklable>): void {
    this.op(OP.EMPTY_DICT);
    this.#items(items);
  }

  #items(items: ReadonlyMap<string, Picklable>): void {
    this.op(OP.MARK);
    for (const [key, value] of items) {
      this.#text(key);
      this.value(value);
    }
    this.op(OP.SETITEMS);
  }

  #object(value: OrderedDict | SavedTensor): void {
    if (value.type === "tensor") {
      this.#tensor(value);
    } else {
      this.#emptyOrderedDict();
      this.#items(value.items);
    }
  }

  #emptyOrderedDict(): void {
    this.#global("collections", "OrderedDict");
    this.op(OP.EMPTY_TUPLE, OP.REDUCE);
  }

  /** The call of torch._utils._rebuild_tensor_v2 that pickle makes of a tensor. */
  #tensor({ storage, key, shape }: SavedTensor): void {
    const strides = shape.map((_, axis) => elementCount(shape.slice(axis + 1)));
    this.#global("torch._utils", "_rebuild_tensor_v2");
    this.op(OP.MARK, OP.MARK);
    this.#text("storage");
    this.#global("torch", storage);
    for (const part of [key, "cpu", elementCount(shape)]) this.value(part);
    this.op(OP.TUPLE, OP.BINPERSID);
    for (const part of [0, shape, strides]) this.value(part);
    this.op(OP.NEWFALSE);
    this.#emptyOrderedDict();
    this.op(OP.TUPLE, OP.REDUCE);
  }

  #global(module: string, name: string): void {
    this.op(OP.GLOBAL);
    this.#chunks.push(Buffer.from(`${module}\n${name}\n`));
  }
}

function isTuple(value: Picklable): value is readonly Picklable[] {
  return Array.isArray(value);
}
