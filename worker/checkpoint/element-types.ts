/** Types of tensor elements, by their names in safetensors: sizes, and how they become arrays. */

export type TensorArray = Float32Array | Float64Array | Int32Array | BigInt64Array | Uint8Array;

interface ElementType {
  /** Of one element. */
  readonly bytes: number;
  /** Takes little-endian bytes over; the array may be a view of them. */
  decode(buffer: ArrayBuffer): TensorArray;
}

export const ELEMENT_TYPES = {
  F64: { bytes: 8, decode: (buffer) => new Float64Array(buffer) },
  F32: { bytes: 4, decode: (buffer) => new Float32Array(buffer) },
  /** F16 and BF16 come widened to float32. */
  F16: { bytes: 2, decode: (buffer) => widenHalfs(new Uint16Array(buffer)) },
  BF16: { bytes: 2, decode: (buffer) => widenBfloats(new Uint16Array(buffer)) },
  I64: { bytes: 8, decode: (buffer) => new BigInt64Array(buffer) },
  I32: { bytes: 4, decode: (buffer) => new Int32Array(buffer) },
  U8: { bytes: 1, decode: (buffer) => new Uint8Array(buffer) },
  /** 0 or 1. */
  BOOL: { bytes: 1, decode: (buffer) => new Uint8Array(buffer) },
} as const satisfies Record<string, ElementType>;

export type Dtype = keyof typeof ELEMENT_TYPES;

export function isDtype(value: unknown): value is Dtype {
  return typeof value === "string" && Object.hasOwn(ELEMENT_TYPES, value);
}

/** The nearest float32 values; the array itself where it has them already. */
export function toFloats(values: TensorArray): Float32Array {
  if (values instanceof Float32Array) return values;
  if (!(values instanceof BigInt64Array)) return new Float32Array(values);
  const floats = new Float32Array(values.length);
  for (const [index, value] of values.entries()) floats[index] = Number(value);
  return floats;
}

/** A half has 5 bits of exponent with bias 15 and 10 of fraction; a float 8, 127 and 23. */
function widenHalfs(bits: Uint16Array): Float32Array {
  const words = new Uint32Array(bits.length);
  const floats = new Float32Array(words.buffer);
  for (let index = 0; index < bits.length; index++) {
    const half = bits[index]!;
    const exponent = (half >> 10) & 0x1f;
    const fraction = half & 0x3ff;
    if (exponent === 0) {
      floats[index] = fraction * 2 ** -24;
      words[index]! |= (half & 0x8000) << 16;
    } else {
      const widened = exponent === 0x1f ? 0xff : exponent - 15 + 127;
      words[index] = ((half & 0x8000) << 16) | (widened << 23) | (fraction << 13);
    }
  }
  return floats;
}

function widenBfloats(bits: Uint16Array): Float32Array {
  const words = new Uint32Array(bits.length);
  for (let index = 0; index < bits.length; index++) words[index] = bits[index]! << 16;
  return new Float32Array(words.buffer);
}
