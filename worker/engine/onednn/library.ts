/**
 * oneDNN's C API, called through koffi.
 *
 * Handles and addresses are plain numbers: user-space addresses have at most 47 bits. Structures
 * stay opaque. The library fills them in buffers of ours that are larger than any version 2 needs,
 * so nothing here depends on their fields.
 *
 * @see https://oneapi-src.github.io/oneDNN/v2.6/
 */

import assert from "node:assert/strict";
import koffi, { type LibraryHandle } from "koffi";
import { FleetError } from "../../../proto/errors.ts";
import {
  type Address,
  ALGORITHM,
  PROTOTYPES,
  QUERY,
  type Status,
  type Symbols,
} from "./symbols.ts";

const NAME = "libdnnl.so.2";
/** What people install to get it. */
const PACKAGE = "libdnnl2 (apt-get install libdnnl2)";
/** First version with the post-operations and normalisation flags that are used here. */
const MINOR_MIN = 5;

const OPERATION_BYTES = 8192;
const DESCRIPTOR_BYTES = 1024;

const FORMAT_ANY = 1;

/** V8's default for `--typed-array-max-size-in-heap`. */
const HEAP_ARRAY_BYTES_MAX = 64;

const CPU = 1;
const IN_ORDER = 1;

export interface Version {
  readonly major: number;
  readonly minor: number;
  readonly patch: number;
}

/** What a primitive does to its result before it stores it. */
export interface PostOperations {
  /** Adds an operand laid out as this descriptor says. */
  readonly add?: Address;
  readonly relu: boolean;
}

/** oneDNN, loaded, with an engine and a stream on the CPU. Not for more than one thread. */
export class Library {
  readonly symbols: Symbols;
  readonly version: Version;
  readonly engine: Address;
  readonly stream: Address;
  readonly #result = new BigUint64Array(1);

  private constructor(symbols: Symbols, version: Version) {
    this.symbols = symbols;
    this.version = version;
    this.engine = this.make("an engine", (result) => symbols.engineCreate(result, CPU, 0));
    this.stream = this.make("a stream", (result) =>
      symbols.streamCreate(result, this.engine, IN_ORDER),
    );
  }

  /** @throws {FleetError} ENGINE_UNAVAILABLE, with what to install */
  static open(): Library {
    let library: LibraryHandle;
    try {
      library = koffi.load(NAME);
    } catch (thrown) {
      const reason = thrown instanceof Error ? thrown.message.split("\n", 1)[0] : String(thrown);
      throw unavailable(`${NAME} does not load (${reason}); install ${PACKAGE}`);
    }
    const version = readVersion(library);
    if (version.major !== 2 || version.minor < MINOR_MIN) {
      const found = `${version.major}.${version.minor}.${version.patch}`;
      throw unavailable(
        `${NAME} is version ${found}, not 2.${MINOR_MIN} or a later 2.x; install ${PACKAGE}`,
      );
    }
    const symbols = Object.fromEntries(
      Object.entries(PROTOTYPES).map(([name, prototype]) => [name, bind(library, prototype)]),
    );
    return new Library(symbols as unknown as Symbols, version);
  }

  /** Calls something that writes the handle of a new object. */
  make(what: string, create: (result: BigUint64Array) => Status): Address {
    this.check(what, create(this.#result));
    return Number(this.#result[0]);
  }

  check(what: string, status: Status): void {
    assert.equal(status, 0, `oneDNN refused ${what} (status ${status})`);
  }

  /** A descriptor by the distances between neighbours along each axis, in elements. */
  stridedDescriptor(
    shape: readonly number[],
    strides: readonly number[],
    type: number,
  ): Uint8Array {
    const md = new Uint8Array(DESCRIPTOR_BYTES);
    const { descriptorByStrides } = this.symbols;
    const status = descriptorByStrides(md, shape.length, wide(shape), type, wide(strides));
    this.check(`the shape [${shape}]`, status);
    return md;
  }

  /** A descriptor by `dnnl_format_tag_t`; without a tag the primitive chooses the layout. */
  taggedDescriptor(shape: readonly number[], type: number, tag: number = FORMAT_ANY): Uint8Array {
    const md = new Uint8Array(DESCRIPTOR_BYTES);
    const { descriptorByTag } = this.symbols;
    this.check(`the shape [${shape}]`, descriptorByTag(md, shape.length, wide(shape), type, tag));
    return md;
  }

  /**
   * Describes a primitive. The result lives until {@link close}, as the layouts that point into it
   * do.
   */
  describe(
    what: string,
    fill: (operation: Uint8Array) => Status,
    { hint = 0, after }: { readonly hint?: Address; readonly after?: PostOperations } = {},
  ): Address {
    const operation = new Uint8Array(OPERATION_BYTES);
    this.check(what, fill(operation));
    const attributes = after ? this.#attributes(after) : 0;
    const pd = this.make(what, (result) =>
      this.symbols.primitiveDescriptor(result, operation, attributes, this.engine, hint),
    );
    if (attributes !== 0) this.symbols.attributesDestroy(attributes);
    return pd;
  }

  /** oneDNN's name for how it computes, e.g. "jit:avx2". */
  implementationOf(pd: Address): string {
    const at = this.make("the name of an implementation", (result) =>
      this.symbols.query(pd, QUERY.implementation, 0, result),
    );
    return koffi.decode.string(BigInt(at));
  }

  close(): void {
    this.symbols.streamDestroy(this.stream);
    this.symbols.engineDestroy(this.engine);
  }

  #attributes({ add, relu }: PostOperations): Address {
    const { symbols } = this;
    const operations = this.make("post-operations", symbols.postOperationsCreate);
    if (add !== undefined) {
      this.check("an addition", symbols.appendBinary(operations, ALGORITHM.add, add));
    }
    if (relu) {
      this.check("a rectifier", symbols.appendEltwise(operations, 1, ALGORITHM.relu, 0, 0));
    }
    const attributes = this.make("attributes", symbols.attributesCreate);
    const status = symbols.attributesSetPostOperations(attributes, operations);
    this.check("post-operations", status);
    symbols.postOperationsDestroy(operations);
    return attributes;
  }
}

function bind(library: LibraryHandle, prototype: string): unknown {
  try {
    return library.func(prototype);
  } catch (thrown) {
    const reason = thrown instanceof Error ? thrown.message : String(thrown);
    throw unavailable(`${NAME} is not oneDNN 2.x (${reason}); install ${PACKAGE}`);
  }
}

function readVersion(library: LibraryHandle): Version {
  const versionOf = bind(library, PROTOTYPES.version) as Symbols["version"];
  const [major, minor, patch] = koffi.decode(BigInt(versionOf()), "int", 3) as [
    number,
    number,
    number,
  ];
  return { major, minor, patch };
}

/** Whether V8 keeps the contents outside of its heap, in which things move. */
export function hasFixedAddress(buffer: ArrayBufferView): boolean {
  return buffer.buffer.byteLength > HEAP_ARRAY_BYTES_MAX;
}

/** Where the contents of a buffer lie. They stay there as long as the buffer is reachable. */
export function addressOf(buffer: ArrayBufferView): Address {
  assert.ok(hasFixedAddress(buffer), "the contents of small arrays move");
  return Number(koffi.address(buffer));
}

/** Numbers as the C API takes dimensions. */
export function wide(values: readonly number[]): BigInt64Array {
  return BigInt64Array.from(values, BigInt);
}

export function unavailable(message: string): FleetError {
  return new FleetError("ENGINE_UNAVAILABLE", message);
}
