import assert from "node:assert/strict";
import fc from "fast-check";
import { FleetError } from "../../../proto/errors.ts";
import {
  BLOCK_BYTES,
  checkBlock,
  decodeFrame,
  digestOf,
  encodeFrame,
  encodeNotice,
  encodeShared,
  type FrameFault,
  type FrameHeader,
  type FrameScope,
  framesIn,
  hashExperiment,
} from "../../../worker/collective/frame.ts";
import { CHUNK_BYTES, expectFrame, PartOrder } from "../../../worker/collective/frame-order.ts";

const scope: FrameScope = { experimentHash: hashExperiment("e1"), generation: 4, source: 2 };
const header: FrameHeader = {
  kind: "reduce",
  dtype: "f32",
  sequence: 7,
  round: 3,
  chunkIndex: 1,
  chunkCount: 2,
  totalBytes: 5_000_000_000,
};

function assertFault(action: () => unknown, ...faults: FrameFault[]): void {
  assert.throws(action, (error) => {
    assert.ok(error instanceof FleetError);
    assert.equal(error.code, "GENERATION_ABORTED");
    assert.ok(faults.includes(error.detail["fault"] as FrameFault), error.message);
    return true;
  });
}

describe("a frame", () => {
  const payload = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
  const whole = encodeFrame(scope, header, payload);

  it("has 64 bytes before its payload, and reads back as it was written", () => {
    assert.equal(whole.length, 64 + payload.length);
    const { payload: received, ...rest } = decodeFrame(whole, scope);
    assert.deepEqual(rest, { ...header, digests: undefined });
    assert.deepEqual(Uint8Array.from(received), payload);
  });

  it("carries any header and payload", () => {
    const u32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
    const headers = fc.record({
      kind: fc.constantFrom("gather", "sum", "barrier", "reduce", "broadcast"),
      dtype: fc.constantFrom("f32", "bf16", "none"),
      sequence: u32,
      round: fc.integer({ min: 0, max: 65535 }),
      chunkIndex: fc.integer({ min: 0, max: 999 }),
      chunkCount: fc.integer({ min: 1000, max: 2 ** 32 - 1 }),
      totalBytes: fc.maxSafeNat(),
    }) satisfies fc.Arbitrary<FrameHeader>;
    const generations = fc.maxSafeNat();
    fc.assert(
      fc.property(headers, generations, fc.uint8Array(), (sample, generation, bytes) => {
        const where = { ...scope, generation };
        const { payload: received, ...rest } = decodeFrame(
          encodeFrame(where, sample, bytes),
          where,
        );
        assert.deepEqual(rest, { ...sample, digests: undefined });
        assert.deepEqual(Uint8Array.from(received), bytes);
      }),
    );
  });

  it("is refused at every length but its own", () => {
    for (let length = 0; length < whole.length; length++) {
      assertFault(() => decodeFrame(whole.subarray(0, length), scope), "TRUNCATED");
    }
    assertFault(() => decodeFrame(Buffer.concat([whole, Buffer.of(0)]), scope), "TRUNCATED");
  });

  it("is refused when any one bit of it is wrong", () => {
    for (let bit = 0; bit < 8 * whole.length; bit++) {
      const damaged = Buffer.from(whole);
      damaged[bit >> 3]! ^= 1 << (bit & 7);
      assertFault(() => decodeFrame(damaged, scope), "CORRUPT", "MALFORMED", "TRUNCATED");
    }
  });

  it("is refused, by a named error, when it is not a frame at all", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        assertFault(() => decodeFrame(bytes, scope), "CORRUPT", "MALFORMED", "TRUNCATED");
      }),
    );
  });

  it("is refused when it is of another generation, experiment or rank", () => {
    const others: FrameScope[] = [
      { ...scope, generation: 3 },
      { ...scope, experimentHash: hashExperiment("e2") },
      { ...scope, source: 1 },
    ];
    for (const other of others) assertFault(() => decodeFrame(whole, other), "FOREIGN");
  });

  it("is refused when its chunk lies outside of its round", () => {
    const beyond = encodeFrame(scope, { ...header, chunkIndex: 2 }, payload);
    assertFault(() => decodeFrame(beyond, scope), "MALFORMED");
  });
});

describe("a frame with its payload in shared memory", () => {
  const bytes = BLOCK_BYTES + 8;
  const shared = Uint8Array.from({ length: bytes + 32 }, (_, i) => i % 251);
  const blocks = (memory: Uint8Array) => [
    memory.subarray(8, 8 + BLOCK_BYTES),
    memory.subarray(8 + BLOCK_BYTES, 8 + bytes),
  ];
  const digests = blocks(shared).map((block) => digestOf(block));
  const whole = encodeShared(scope, header, { place: 8, bytes, digests });

  it("reads back as it was written", () => {
    assert.equal(whole.length, 64 + 2 * 8);
    const frame = decodeFrame(whole, scope, shared);
    const { payload, digests: received, ...rest } = frame;
    assert.deepEqual(rest, header);
    assert.deepEqual(payload, shared.subarray(8, 8 + bytes));
    assert.deepEqual(received, Buffer.concat(digests));
    for (const [i, block] of blocks(shared).entries()) checkBlock(frame, i, block);
  });

  it("is refused when its payload has changed, or a block is another's", () => {
    const frame = decodeFrame(whole, scope, shared);
    const [first, second] = blocks(shared) as [Uint8Array, Uint8Array];
    for (let bit = 0; bit < 8 * second.length; bit++) {
      const damaged = second.slice();
      damaged[bit >> 3]! ^= 1 << (bit & 7);
      assertFault(() => checkBlock(frame, 1, damaged), "CORRUPT");
    }
    assertFault(() => checkBlock(frame, 1, first), "CORRUPT");
    assertFault(() => checkBlock(frame, 2, second), "CORRUPT");
  });

  it("is refused when any one bit of it is wrong", () => {
    for (let bit = 0; bit < 8 * whole.length; bit++) {
      const damaged = Buffer.from(whole);
      damaged[bit >> 3]! ^= 1 << (bit & 7);
      assertFault(() => decodeFrame(damaged, scope, shared), "CORRUPT", "MALFORMED", "TRUNCATED");
    }
  });

  it("is refused where there is no such memory, or less of it", () => {
    assertFault(() => decodeFrame(whole, scope), "MALFORMED");
    assertFault(() => decodeFrame(whole, scope, shared.subarray(0, 7 + bytes)), "MALFORMED");
  });

  it("travels with others in one message", () => {
    const message = Buffer.concat([whole, whole, whole]);
    assert.deepEqual(framesIn(message), [whole, whole, whole]);
    assert.deepEqual(framesIn(message.subarray(0, -1)).at(-1), whole.subarray(0, -1));
    assert.deepEqual(framesIn(whole), [whole]);
    assert.deepEqual(framesIn(whole.subarray(0, 10)), [whole.subarray(0, 10)]);
    const inline = encodeFrame(scope, header, Uint8Array.of(1));
    assert.deepEqual(framesIn(Buffer.concat([inline, whole])).length, 1);
  });
});

describe("a ring's stream", () => {
  const frame = { ...header, payload: new Uint8Array(8), digests: undefined };
  const expected = { ...header, payloadBytes: 8 };

  it("takes the frame that is next", () => {
    expectFrame(frame, expected);
  });

  it("refuses a frame that came before", () => {
    assertFault(() => expectFrame(frame, { ...expected, sequence: 8, round: 0 }), "REPEATED");
    assertFault(() => expectFrame(frame, { ...expected, round: 4, chunkIndex: 0 }), "REPEATED");
    assertFault(() => expectFrame({ ...frame, chunkIndex: 0 }, expected), "REPEATED");
  });

  it("refuses a frame before which another is missing", () => {
    assertFault(() => expectFrame(frame, { ...expected, sequence: 6, round: 9 }), "REORDERED");
    assertFault(() => expectFrame(frame, { ...expected, round: 2 }), "REORDERED");
    assertFault(() => expectFrame(frame, { ...expected, chunkIndex: 0 }), "REORDERED");
  });

  it("refuses a frame of another operation, type or size", () => {
    const others = [
      { kind: "broadcast" },
      { dtype: "bf16" },
      { totalBytes: 8 },
      { chunkCount: 3 },
      { payloadBytes: 4 },
    ] as const;
    for (const other of others) {
      assertFault(() => expectFrame(frame, { ...expected, ...other }), "MISMATCHED");
    }
  });
});

describe("a small lane's stream", () => {
  const part = (sequence: number, chunkIndex: number, totalBytes: number, payloadBytes: number) => {
    const chunkCount = Math.max(1, Math.ceil(totalBytes / CHUNK_BYTES));
    const where = { sequence, round: 0, chunkIndex, chunkCount, totalBytes };
    return {
      ...where,
      kind: "gather",
      dtype: "f32",
      payload: new Uint8Array(payloadBytes),
      digests: undefined,
    } as const;
  };

  it("takes parts of one chunk and of several, one operation after another", () => {
    const order = new PartOrder();
    order.accept(part(0, 0, 8, 8));
    order.accept(part(1, 0, 0, 0));
    order.accept(part(2, 0, CHUNK_BYTES + 4, CHUNK_BYTES));
    order.accept(part(2, 1, CHUNK_BYTES + 4, 4));
    order.accept(part(3, 0, 8, 8));
  });

  it("refuses repeated, skipped and short chunks", () => {
    const begun = () => {
      const order = new PartOrder();
      order.accept(part(0, 0, 8, 8));
      return order;
    };
    assertFault(() => begun().accept(part(0, 0, 8, 8)), "REPEATED");
    assertFault(() => begun().accept(part(2, 0, 8, 8)), "REORDERED");
    assertFault(() => begun().accept(part(1, 1, 300_000, 37_856)), "REORDERED");
    assertFault(() => begun().accept(part(1, 0, 8, 4)), "MISMATCHED");
  });
});

describe("a notice", () => {
  it("carries JSON", () => {
    const frame = decodeFrame(encodeNotice(scope, "abort", { json: { message: "x" } }), scope);
    assert.deepEqual(JSON.parse(Buffer.from(frame.payload).toString()), { message: "x" });
  });
});
