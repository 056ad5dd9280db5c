/**
 * oneDNN's C API, called through koffi.
 *
 * Handles and addresses are plain numbers: user-space addresses have at most 47 bits. Structures
 * stay opaque. The library fills them in buffers of ours that are larger than any 2.x version needs,
 * so nothing here depends on their fields.
 *
 * @see https://oneapi-src.github.io/oneDNN/v2.6/
 */

import assert from "node:assert/strict";
import koffi, { type LibraryHandle } from "koffi";
import { FleetError } from "../../../proto/errors.ts";

/** Address of an object of oneDNN, or of memory. */
export type Address = number;

const NAME = "libdnnl.so.2";
/** What people install to get it. */
const PACKAGE = "libdnnl2 (apt-get install libdnnl2)";
/** First version with the post-operations and normalisation flags that are used here. */
const MINOR_MIN = 5;

const OPERATION_BYTES = 8192;
const DESCRIPTOR_BYTES = 1024;

/** `dnnl_types.h`, as far as it is used. */
export const DATA_TYPE = { bf16: 2, f32: 3, s32: 4 } as const;
export const PROP = { training: 64, inference: 96 } as const;
export const ALGORITHM = {
  convolution: 0x1,
  relu: 0x1f,
  maxPool: 0x1ff,
  averagePool: 0x3ff,
  add: 0x1fff0,
} as const;
export const ARGUMENT = {
  source: 1,
  destination: 17,
  weights: 33,
  bias: 41,
  workspace: 64,
  dSource: 129,
  dDestination: 145,
  dWeights: 161,
  /** Second operand of the first post-operation: its place, times this, and `second`. */
  postOperation: 16_384,
  second: 2,
} as const;
export const QUERY = {
  implementation: 8,
  source: 129,
  dSource: 130,
  weights: 131,
  dWeights: 132,
  destination: 133,
  dDestination: 134,
  workspace: 135,
} as const;
const FORMAT_ANY = 1;

const CPU = 1;
const IN_ORDER = 1;

type Status = number;
type Native<A extends readonly unknown[], R = Status> = (...values: A) => R;

/** Buffers go as `void*`: the address of what they hold. */
interface Symbols {
  readonly engineCreate: Native<[BigUint64Array, number, number]>;
  readonly engineDestroy: Native<[Address]>;
  readonly streamCreate: Native<[BigUint64Array, Address, number]>;
  readonly streamDestroy: Native<[Address]>;
  readonly streamWait: Native<[Address]>;
  readonly descriptorByStrides: Native<[Uint8Array, number, BigInt64Array, number, BigInt64Array]>;
  readonly descriptorByTag: Native<[Uint8Array, number, BigInt64Array, number, number]>;
  readonly descriptorEqual: Native<[Address, Address], number>;
  readonly descriptorSize: Native<[Address], number>;
  readonly descriptorOf: Native<[Address, number, number], Address>;
  readonly query: Native<[Address, number, number, BigUint64Array]>;
  readonly primitiveDescriptor: Native<[BigUint64Array, Uint8Array, Address, Address, Address]>;
  readonly primitiveDescriptorDestroy: Native<[Address]>;
  readonly reorder: Native<[BigUint64Array, Address, Address, Address, Address, Address]>;
  readonly primitiveCreate: Native<[BigUint64Array, Address]>;
  readonly primitiveDestroy: Native<[Address]>;
  readonly execute: Native<[Address, Address, number, BigUint64Array]>;
  readonly memoryCreate: Native<[BigUint64Array, Address, Address, Address]>;
  readonly memoryDestroy: Native<[Address]>;
  readonly memorySetHandle: Native<[Address, Address, Address]>;
  readonly attributesCreate: Native<[BigUint64Array]>;
  readonly attributesDestroy: Native<[Address]>;
  readonly attributesSetPostOperations: Native<[Address, Address]>;
  readonly postOperationsCreate: Native<[BigUint64Array]>;
  readonly postOperationsDestroy: Native<[Address]>;
  readonly appendEltwise: Native<[Address, number, number, number, number]>;
  readonly appendBinary: Native<[Address, number, Address]>;
  readonly convolutionForward: Native<
    [
      Uint8Array,
      number,
      number,
      Address,
      Address,
      Address,
      Address,
      BigInt64Array,
      BigInt64Array,
      BigInt64Array,
    ]
  >;
  readonly convolutionBackwardData: Native<
    [Uint8Array, number, Address, Address, Address, BigInt64Array, BigInt64Array, BigInt64Array]
  >;
  readonly convolutionBackwardWeights: Native<
    [
      Uint8Array,
      number,
      Address,
      Address,
      Address,
      Address,
      BigInt64Array,
      BigInt64Array,
      BigInt64Array,
    ]
  >;
  readonly poolingForward: Native<
    [
      Uint8Array,
      number,
      number,
      Address,
      Address,
      BigInt64Array,
      BigInt64Array,
      BigInt64Array,
      BigInt64Array,
    ]
  >;
  readonly poolingBackward: Native<
    [
      Uint8Array,
      number,
      Address,
      Address,
      BigInt64Array,
      BigInt64Array,
      BigInt64Array,
      BigInt64Array,
    ]
  >;
  readonly sgemm: Native<
    [
      number,
      number,
      number,
      number,
      number,
      number,
      Address,
      number,
      Address,
      number,
      number,
      Address,
      number,
    ]
  >;
  readonly effectiveIsa: Native<[], number>;
  readonly version: Native<[], Address>;
}

const PROTOTYPES: Readonly<Record<keyof Symbols, string>> = {
  engineCreate: "int dnnl_engine_create(void *engine, int kind, size_t index)",
  engineDestroy: "int dnnl_engine_destroy(uintptr_t engine)",
  streamCreate: "int dnnl_stream_create(void *stream, uintptr_t engine, uint flags)",
  streamDestroy: "int dnnl_stream_destroy(uintptr_t stream)",
  streamWait: "int dnnl_stream_wait(uintptr_t stream)",
  descriptorByStrides:
    "int dnnl_memory_desc_init_by_strides(void *md, int n, void *dims, int type, void *strides)",
  descriptorByTag:
    "int dnnl_memory_desc_init_by_tag(void *md, int n, void *dims, int type, int tag)",
  descriptorEqual: "int dnnl_memory_desc_equal(uintptr_t a, uintptr_t b)",
  descriptorSize: "size_t dnnl_memory_desc_get_size(uintptr_t md)",
  descriptorOf: "uintptr_t dnnl_primitive_desc_query_md(uintptr_t pd, int what, int index)",
  query: "int dnnl_primitive_desc_query(uintptr_t pd, int what, int index, void *result)",
  primitiveDescriptor:
    "int dnnl_primitive_desc_create(void *pd, void *op, uintptr_t attributes, uintptr_t engine, " +
    "uintptr_t hint)",
  primitiveDescriptorDestroy: "int dnnl_primitive_desc_destroy(uintptr_t pd)",
  reorder:
    "int dnnl_reorder_primitive_desc_create(void *pd, uintptr_t from, uintptr_t fromEngine, " +
    "uintptr_t to, uintptr_t toEngine, uintptr_t attributes)",
  primitiveCreate: "int dnnl_primitive_create(void *primitive, uintptr_t pd)",
  primitiveDestroy: "int dnnl_primitive_destroy(uintptr_t primitive)",
  execute: "int dnnl_primitive_execute(uintptr_t primitive, uintptr_t stream, int n, void *args)",
  memoryCreate:
    "int dnnl_memory_create(void *memory, uintptr_t md, uintptr_t engine, uintptr_t at)",
  memoryDestroy: "int dnnl_memory_destroy(uintptr_t memory)",
  memorySetHandle:
    "int dnnl_memory_set_data_handle_v2(uintptr_t memory, uintptr_t at, uintptr_t stream)",
  attributesCreate: "int dnnl_primitive_attr_create(void *attributes)",
  attributesDestroy: "int dnnl_primitive_attr_destroy(uintptr_t attributes)",
  attributesSetPostOperations:
    "int dnnl_primitive_attr_set_post_ops(uintptr_t attributes, uintptr_t operations)",
  postOperationsCreate: "int dnnl_post_ops_create(void *operations)",
  postOperationsDestroy: "int dnnl_post_ops_destroy(uintptr_t operations)",
  appendEltwise:
    "int dnnl_post_ops_append_eltwise(uintptr_t operations, float scale, int algorithm, " +
    "float alpha, float beta)",
  appendBinary:
    "int dnnl_post_ops_append_binary(uintptr_t operations, int algorithm, uintptr_t md)",
  convolutionForward:
    "int dnnl_convolution_forward_desc_init(void *op, int prop, int algorithm, uintptr_t source, " +
    "uintptr_t weights, uintptr_t bias, uintptr_t destination, void *strides, void *left, " +
    "void *right)",
  convolutionBackwardData:
    "int dnnl_convolution_backward_data_desc_init(void *op, int algorithm, uintptr_t source, " +
    "uintptr_t weights, uintptr_t destination, void *strides, void *left, void *right)",
  convolutionBackwardWeights:
    "int dnnl_convolution_backward_weights_desc_init(void *op, int algorithm, uintptr_t source, " +
    "uintptr_t weights, uintptr_t bias, uintptr_t destination, void *strides, void *left, " +
    "void *right)",
  poolingForward:
    "int dnnl_pooling_forward_desc_init(void *op, int prop, int algorithm, uintptr_t source, " +
    "uintptr_t destination, void *strides, void *kernel, void *left, void *right)",
  poolingBackward:
    "int dnnl_pooling_backward_desc_init(void *op, int algorithm, uintptr_t source, " +
    "uintptr_t destination, void *strides, void *kernel, void *left, void *right)",
  sgemm:
    "int dnnl_sgemm(char transposeA, char transposeB, int64_t m, int64_t n, int64_t k, " +
    "float alpha, uintptr_t a, int64_t lda, uintptr_t b, int64_t ldb, float beta, uintptr_t c, " +
    "int64_t ldc)",
  effectiveIsa: "int dnnl_get_effective_cpu_isa()",
  version: "uintptr_t dnnl_version()",
};

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

/** Where the contents of a buffer lie. They stay there as long as the buffer is reachable. */
export function addressOf(buffer: ArrayBufferView): Address {
  return Number(koffi.address(buffer));
}

/** Numbers as the C API takes dimensions. */
export function wide(values: readonly number[]): BigInt64Array {
  return BigInt64Array.from(values, BigInt);
}

export function unavailable(message: string): FleetError {
  return new FleetError("ENGINE_UNAVAILABLE", message);
}
