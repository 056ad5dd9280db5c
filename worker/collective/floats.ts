/**
 * Floats on the wire: as they are, or as bfloat16 (the upper half of an f32, rounded to nearest,
 * ties to even). Sums are always taken in f32.
 *
 * The arithmetic is floats.wat's, 128 bits at a time: loops in JavaScript take three times as long
 * for sums and ten times for roundings, though blocks need not be copied in and out for them.
 */

import { readFileSync } from "node:fs";

export type Wire = "f32" | "bf16";

export const WIRE_BYTES = { f32: 4, bf16: 2 } as const satisfies Record<Wire, number>;

/** The exports of floats.wat: each works on so many floats of A and B. */
interface Kernels {
  readonly memory: WebAssembly.Memory;
  readonly add: (floats: number) => void;
  readonly addHalves: (floats: number) => void;
  readonly widen: (floats: number) => void;
  readonly round: (floats: number) => void;
  readonly settle: (floats: number) => void;
}

/** Floats in A and in B. */
const BLOCK = 16_384;

const kernels = instantiate();
const A = new Float32Array(kernels.memory.buffer, 0, BLOCK);
const B = new Uint8Array(kernels.memory.buffer, A.byteLength, A.byteLength);

/** Writes `source` to `target`. */
export function packFloats(wire: Wire, source: Float32Array, target: Uint8Array): void {
  if (wire === "f32") {
    target.set(bytesOf(source));
    return;
  }
  forEachBlock(source, (block, begin) => {
    A.set(block);
    kernels.round(block.length);
    target.set(B.subarray(0, 2 * block.length), 2 * begin);
  });
}

/** Overwrites `target` by what `packFloats` wrote. `payload` may lie anywhere. */
export function storeFloats(wire: Wire, payload: Uint8Array, target: Float32Array): void {
  if (wire === "f32") {
    bytesOf(target).set(payload);
    return;
  }
  forEachBlock(target, (block, begin) => {
    B.set(payload.subarray(2 * begin, 2 * (begin + block.length)));
    kernels.widen(block.length);
    block.set(A.subarray(0, block.length));
  });
}

/** Adds what `packFloats` wrote to `target`. `payload` may lie anywhere. */
export function addFloats(wire: Wire, payload: Uint8Array, target: Float32Array): void {
  const bytes = WIRE_BYTES[wire];
  const add = wire === "f32" ? kernels.add : kernels.addHalves;
  forEachBlock(target, (block, begin) => {
    A.set(block);
    B.set(payload.subarray(bytes * begin, bytes * (begin + block.length)));
    add(block.length);
    block.set(A.subarray(0, block.length));
  });
}

/** Leaves in `values` exactly what a receiver would read. */
export function roundToWire(wire: Wire, values: Float32Array): void {
  if (wire === "f32") return;
  forEachBlock(values, (block) => {
    A.set(block);
    kernels.settle(block.length);
    block.set(A.subarray(0, block.length));
  });
}

/**
 * Writes to `target` the sum of `addends`, which are as long as it is, taken in their order. Every
 * sum that another addend is added to is rounded, as if it had travelled to whoever adds that.
 *
 * @param addends the target may be one of them
 * @param result `rounded` leaves what a receiver of the sum would read, `exact` the sum itself
 */
export function sumInOrder(
  wire: Wire,
  addends: readonly Float32Array[],
  target: Float32Array,
  result: "rounded" | "exact",
): void {
  const roundBlock = (length: number) => {
    if (wire === "bf16") kernels.settle(length);
  };
  forEachBlock(target, (block, begin) => {
    const { length } = block;
    for (const [i, addend] of addends.entries()) {
      const values = addend.subarray(begin, begin + length);
      if (i === 0) {
        A.set(values);
        continue;
      }
      roundBlock(length);
      B.set(bytesOf(values));
      kernels.add(length);
    }
    if (result === "rounded") roundBlock(length);
    block.set(A.subarray(0, length));
  });
}

export function bytesOf(floats: Float32Array): Uint8Array {
  return new Uint8Array(floats.buffer, floats.byteOffset, floats.byteLength);
}

function forEachBlock(
  floats: Float32Array,
  work: (block: Float32Array, begin: number) => void,
): void {
  for (let begin = 0; begin < floats.length; begin += BLOCK) {
    work(floats.subarray(begin, begin + BLOCK), begin);
  }
}

function instantiate(): Kernels {
  const code = readFileSync(new URL("./floats.wasm", import.meta.url));
  return new WebAssembly.Instance(new WebAssembly.Module(code)).exports as Kernels;
}
