/** The functions and numbers of oneDNN's C API that are used here: `dnnl.h` and `dnnl_types.h`. */

/** Address of an object of oneDNN, or of memory. */
export type Address = number;

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
export type Status = number;
type Native<A extends readonly unknown[], R = Status> = (...values: A) => R;

/** Buffers go as `void*`: the address of what they hold. */
export interface Symbols {
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

export const PROTOTYPES: Readonly<Record<keyof Symbols, string>> = {
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
