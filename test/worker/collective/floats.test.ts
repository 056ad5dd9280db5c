import assert from "node:assert/strict";
import fc from "fast-check";
import {
  addFloats,
  packFloats,
  roundToWire,
  storeFloats,
} from "../../../worker/collective/floats.ts";

/** Through the wire and back, the payload at an odd address as gRPC delivers it. */
function travel(wire: "f32" | "bf16", values: Float32Array): Float32Array {
  const packed = new Uint8Array(values.length * (wire === "f32" ? 4 : 2));
  packFloats(wire, values, packed);
  const message = new Uint8Array(packed.length + 5);
  message.set(packed, 5);
  const received = new Float32Array(values.length);
  storeFloats(wire, message.subarray(5), received);
  const sums = new Float32Array(values.length).fill(-0);
  addFloats(wire, message.subarray(5), sums);
  assert.deepEqual(sums, received);
  return received;
}

/** The bfloat16 nearest to x, found by comparing its two neighbours; ties to the even one. */
function nearestBf16(x: number): number {
  const bits = new Uint32Array(1);
  const float = new Float32Array(bits.buffer);
  float[0] = x;
  const lower = bits[0]! & 0xffff_0000;
  bits[0] = lower;
  const below = float[0]!;
  bits[0] = lower + 0x1_0000;
  const above = float[0]!;
  // One step beyond the largest finite value counts as 2 ** 128, not as infinity.
  const distanceAbove = Math.abs((Number.isFinite(above) ? above : Math.sign(x) * 2 ** 128) - x);
  const distanceBelow = Math.abs(x - below);
  if (distanceAbove !== distanceBelow) return distanceAbove < distanceBelow ? above : below;
  return (lower >>> 16) % 2 === 0 ? below : above;
}

describe("floats on the wire", () => {
  it("arrive as they were, in f32", () => {
    fc.assert(
      fc.property(fc.float32Array(), (values) => {
        assert.deepEqual(travel("f32", values), values);
      }),
    );
  });

  it("arrive as the nearest bfloat16, ties to even", () => {
    const ties = [1 + 2 ** -8, 1 + 3 * 2 ** -8, -(1 + 2 ** -8), 2 ** -133, 3.4e38];
    const finite = fc.float32Array({ noNaN: true, noDefaultInfinity: true });
    fc.assert(
      fc.property(finite, (values) => {
        assert.deepEqual(travel("bf16", values), values.map(nearestBf16));
      }),
      { examples: [[Float32Array.from(ties)]] },
    );
  });

  it("keep NaN and infinities in bfloat16", () => {
    const signalling = new Float32Array(Uint32Array.of(0x7f80_0001, 0xffff_ffff).buffer);
    const values = Float32Array.of(Number.NaN, Infinity, -Infinity, ...signalling);
    assert.deepEqual([...travel("bf16", values)], [NaN, Infinity, -Infinity, NaN, NaN]);
  });

  it("are rounded in place to what a receiver reads", () => {
    const values = Float32Array.of(1.2345678, -9.87e-5, 3);
    const received = travel("bf16", values);
    roundToWire("bf16", values);
    assert.deepEqual(values, received);
    assert.deepEqual(travel("bf16", values), values);
  });
});
