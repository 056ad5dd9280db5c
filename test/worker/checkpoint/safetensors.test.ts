import assert from "node:assert/strict";
import {
  decodeSafetensors,
  encodeSafetensors,
  type SafetensorsTensor,
} from "../../../worker/checkpoint/safetensors.ts";

/** A file from a header and a number of zero bytes. */
function fileOf(header: unknown, bodyBytes: number, text = JSON.stringify(header)): Uint8Array {
  const json = Buffer.from(text);
  const file = Buffer.alloc(8 + json.length + bodyBytes);
  file.writeBigUInt64LE(BigInt(json.length));
  json.copy(file, 8);
  return file;
}

const entry = (dtype: string, shape: unknown, ...offsets: unknown[]) => ({
  dtype,
  shape,
  data_offsets: offsets,
});

describe("safetensors", () => {
  const tensors = new Map<string, SafetensorsTensor>([
    ["w", { dtype: "F32", shape: [2, 2], data: Float32Array.of(1, -2, 3.5, Number.NaN) }],
    ["tracked", { dtype: "I64", shape: [], data: BigInt64Array.of(-(2n ** 40n)) }],
    ["pixels", { dtype: "U8", shape: [3], data: Uint8Array.of(0, 128, 255) }],
    ["exact", { dtype: "F64", shape: [1], data: Float64Array.of(0.1) }],
    ["labels", { dtype: "I32", shape: [2, 1], data: Int32Array.of(-1, 7) }],
    ["nothing", { dtype: "F32", shape: [0, 4], data: new Float32Array(0) }],
  ]);

  it("reads what it wrote, in order, with its metadata", () => {
    const decoded = decodeSafetensors(encodeSafetensors(tensors, { format: "pt" }));
    assert.deepEqual([...decoded.tensors], [...tensors]);
    assert.deepEqual(decoded.metadata, { format: "pt" });
    assert.deepEqual(decodeSafetensors(encodeSafetensors(new Map())).tensors, new Map());
  });

  it("reads from the middle of a buffer", () => {
    const file = encodeSafetensors(tensors);
    const shifted = new Uint8Array(file.length + 3);
    shifted.set(file, 3);
    assert.deepEqual([...decodeSafetensors(shifted.subarray(3)).tensors], [...tensors]);
  });

  it("aligns every tensor to its type", () => {
    const file = Buffer.from(encodeSafetensors(tensors));
    const headerBytes = Number(file.readBigUInt64LE());
    assert.equal(headerBytes % 8, 0);
    const header = JSON.parse(file.toString("utf8", 8, 8 + headerBytes));
    for (const [name, { data }] of tensors) {
      assert.equal(header[name].data_offsets[0] % data.BYTES_PER_ELEMENT, 0, name);
    }
  });

  it("widens half precision", () => {
    const file = fileOf({ h: entry("F16", [7], 0, 14), b: entry("BF16", [2], 14, 18) }, 18);
    const bits = [0x3c00, 0xc000, 0x0001, 0x7bff, 0x7c00, 0xfc00, 0x7e00, 0x3f80, 0xc049];
    for (const [k, half] of bits.entries()) {
      new DataView(file.buffer, file.byteOffset).setUint16(file.length - 18 + 2 * k, half, true);
    }
    const decoded = decodeSafetensors(file).tensors;
    assert.deepEqual(
      decoded.get("h")?.data,
      Float32Array.of(1, -2, 2 ** -24, 65504, Infinity, -Infinity, Number.NaN),
    );
    assert.deepEqual(decoded.get("b")?.data, Float32Array.of(1, -3.140625));
  });

  for (const [what, file, reason] of [
    ["an empty file", new Uint8Array(0), /0 bytes are no file/],
    ["a header longer than the file", fileOf({}, 0).fill(9, 0, 2), /does not fit/],
    ["a header that is not JSON", fileOf({}, 0, "{]"), /not JSON$/],
    ["a header that is no object", fileOf([], 0), /not a JSON object/],
    ["an unknown type", fileOf({ a: entry("F8", [1], 0, 1) }, 1), /a has the unknown type "F8"/],
    ["a type from Object's prototype", fileOf({ a: entry("toString", [1], 0, 1) }, 1), /unknown/],
    ["a negative size", fileOf({ a: entry("U8", [-1], 0, 1) }, 1), /a has no valid shape/],
    ["offsets that are no pair", fileOf({ a: entry("U8", [1], 0) }, 1), /no valid offsets/],
    ["offsets of another size", fileOf({ a: entry("F32", [2], 0, 4) }, 4), /F32 \[2\] is not 4/],
    [
      "a hole between tensors",
      fileOf({ a: entry("U8", [1], 0, 1), b: entry("U8", [1], 2, 3) }, 3),
      /b begins at byte 2 instead of 1/,
    ],
    [
      "tensors that overlap",
      fileOf({ a: entry("U8", [2], 0, 2), b: entry("U8", [2], 1, 3) }, 3),
      /b begins at byte 1 instead of 2/,
    ],
    ["a truncated file", fileOf({ a: entry("U8", [4], 0, 4) }, 3), /3 bytes of tensors/],
    ["bytes left over", fileOf({ a: entry("U8", [4], 0, 4) }, 5), /5 bytes of tensors/],
    ["metadata that are not text", fileOf({ __metadata__: { a: 1 } }, 0), /metadata a are not/],
  ] as const) {
    it(`refuses ${what}`, () => {
      assert.throws(() => decodeSafetensors(file), { code: "CHECKPOINT_INVALID", message: reason });
    });
  }
});
