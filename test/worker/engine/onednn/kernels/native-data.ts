/** Memory that kernels can be given the address of, and what its elements mean. */

import assert from "node:assert/strict";
import fs from "node:fs";
import koffi from "koffi";
import type { ElementType } from "../../../../../worker/engine/onednn/kernels/elements.ts";
import { VectorKernels } from "../../../../../worker/engine/onednn/kernels/vector-kernels.ts";
import { Prng } from "../../../../support/prng.ts";

/** A kernel knows no more than an address, so nothing of a test is collected before its end. */
const inUse: Native[] = [];

afterEach(() => {
  inUse.length = 0;
});

/** Elements behind every array that no kernel may touch. */
const FENCE = 64;
const FENCE_BITS = 0x5a5a;

/** Numbers in a kernel's memory, given and read as f32. */
export class Native {
  readonly type: ElementType;
  readonly count: number;
  readonly address: number;
  readonly #bits: Uint16Array | Uint32Array;

  constructor(type: ElementType, values: number | ArrayLike<number>) {
    this.type = type;
    this.count = typeof values === "number" ? values : values.length;
    const length = this.count + FENCE;
    this.#bits = type === "f32" ? new Uint32Array(length) : new Uint16Array(length);
    this.#bits.fill(FENCE_BITS);
    this.address = Number(koffi.address(this.#bits));
    inUse.push(this);
    if (typeof values !== "number") {
      const bits = bitsOf(new Float32Array(values));
      this.#bits.set(type === "f32" ? bits : bits.map(bf16BitsOf));
    }
  }

  /** Also checks that nothing was written behind the end. */
  read(): Float32Array<ArrayBuffer> {
    assert.ok(
      this.#bits.subarray(this.count).every((bits) => bits === FENCE_BITS),
      "wrote behind the end",
    );
    const bits = new Uint32Array(this.#bits.subarray(0, this.count));
    if (this.type === "bf16") for (let i = 0; i < bits.length; i++) bits[i] = bits[i]! << 16;
    return new Float32Array(bits.buffer);
  }

  copy(): Native {
    return new Native(this.type, this.read());
  }
}

export function f32(values: number | ArrayLike<number>): Native {
  return new Native("f32", values);
}

function bitsOf(values: Float32Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}

/** What a store in this type keeps of f32 values. */
export function stored(type: ElementType, values: ArrayLike<number>): Float32Array {
  return new Native(type, values).read();
}

export function assertSameBits(actual: Float32Array, expected: Float32Array, what: string): void {
  const [a, e] = [bitsOf(actual), bitsOf(expected)];
  assert.equal(a.length, e.length, what);
  const i = a.findIndex((bits, at) => bits !== e[at]);
  assert.equal(i, -1, `${what}: [${i}] is ${actual[i]}, not ${expected[i]}`);
}

export function randoms(seed: number, count: number, low = -2, high = 2): Float32Array {
  const prng = new Prng(seed);
  return new Float32Array(count).map(() => low + (high - low) * prng.next());
}

/** What teams of one and of two threads compute, after a check that it is the same. */
export function onTeams<T extends Float32Array | Float64Array>(
  compute: (kernels: VectorKernels) => T,
): T {
  const [one, two] = teams().map(compute) as [T, T];
  assert.ok(bytesOf(two).equals(bytesOf(one)), "two threads compute what one does");
  return one;
}

let opened: readonly VectorKernels[] | undefined;

function teams(): readonly VectorKernels[] {
  opened ??= [1, 2].map((threads) => VectorKernels.open(threads));
  return opened;
}

after(() => {
  for (const kernels of opened ?? []) kernels.close();
});

function bytesOf(values: Float32Array | Float64Array): Buffer {
  return Buffer.from(values.buffer, values.byteOffset, values.byteLength);
}

/** A suite whose kernels run for real; says so in the report where the processor cannot. */
export function describeOnProcessor(title: string, suite: () => void): void {
  const cpu = fs.readFileSync("/proc/cpuinfo", "utf8");
  const missing = ["avx2", "fma"].filter((flag) => !new RegExp(`\\b${flag}\\b`).test(cpu));
  if (missing.length === 0) describe(title, suite);
  else {
    describe(title, () => {
      it(`cannot run on this processor, which lacks ${missing.join(" and ")}`, () => {});
    });
  }
}

/** To nearest, ties to even. */
function bf16BitsOf(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  const low = bits & 0xffff;
  const kept = bits >>> 16;
  return low > 0x8000 || (low === 0x8000 && kept % 2 === 1) ? kept + 1 : kept;
}
