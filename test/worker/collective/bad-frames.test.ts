import assert from "node:assert/strict";
import { FleetError } from "../../../proto/errors.ts";
import { encodeFrame, encodeNotice, type FrameHeader } from "../../../worker/collective/frame.ts";
import { CHUNK_BYTES } from "../../../worker/collective/frame-order.ts";
import { sharedFloats } from "../../../worker/collective/process-group.ts";
import { formWithRawPeer, type RawPeer, rawScope } from "./raw-peer.ts";

const part: FrameHeader = {
  kind: "gather",
  dtype: "f32",
  sequence: 0,
  round: 0,
  chunkIndex: 0,
  chunkCount: 1,
  totalBytes: 8,
};
const floats = new Uint8Array(Float32Array.of(3, 4).buffer);

describe("a stream from a peer", function () {
  this.timeout(20_000);
  let peer: RawPeer;
  beforeEach(async () => {
    peer = await formWithRawPeer();
  });
  afterEach(() => peer.close());

  async function assertAborts(operation: Promise<unknown>, pattern: RegExp): Promise<void> {
    await assert.rejects(operation, (error) => {
      assert.ok(error instanceof FleetError);
      assert.equal(error.code, "GENERATION_ABORTED");
      assert.match(error.message, pattern);
      assert.equal(error.detail["rank"], 1);
      assert.equal(error.detail["worker"], "w1");
      return true;
    });
  }

  it("is used when it keeps to the protocol", async () => {
    peer.small.write(encodeFrame(rawScope, part, floats));
    assert.deepEqual(
      await peer.group.allGather(Float32Array.of(1, 2)),
      Float32Array.of(1, 2, 3, 4),
    );
  });

  const whole = encodeFrame(rawScope, part, floats);
  const damaged = Buffer.from(whole);
  damaged[70]! ^= 1;
  const stale = encodeFrame({ ...rawScope, generation: 3 }, part, floats);
  const later = encodeFrame(rawScope, { ...part, sequence: 1 }, floats);
  const faults: [string, Buffer[], RegExp][] = [
    ["truncated", [whole.subarray(0, 68)], /TRUNCATED/],
    ["damaged", [damaged], /CORRUPT/],
    ["repeated", [whole, whole], /REPEATED/],
    ["missing", [later], /REORDERED/],
    ["stale", [stale], /FOREIGN frame: of generation 3/],
    ["not one at all", [Buffer.from("GET / HTTP/1.1\r\n".repeat(8))], /MALFORMED/],
  ];
  for (const [name, frames, pattern] of faults) {
    it(`ends the generation when a frame is ${name}`, async () => {
      for (const frame of frames) peer.small.write(frame);
      const twice = peer.group
        .allGather(Float32Array.of(1, 2))
        .then(() => peer.group.allGather(Float32Array.of(1, 2)));
      await assertAborts(twice, pattern);
    });
  }

  it("ends the generation when it ends in good order in the middle of a part", async () => {
    const gather = peer.group.allGather(new Float32Array(CHUNK_BYTES / 4 + 1));
    const header = { ...part, chunkCount: 2, totalBytes: CHUNK_BYTES + 4 };
    peer.small.write(encodeFrame(rawScope, header, new Uint8Array(CHUNK_BYTES)));
    peer.small.end();
    await assertAborts(gather, /was lost: its stream ended/);
  });

  it("ends the generation when it ends in good order in the middle of a sum", async () => {
    const totalBytes = 2 * (CHUNK_BYTES + 4);
    const sum = peer.group.allReduce(sharedFloats(totalBytes / 4));
    await peer.firstFrame("bulk");
    const header = { ...part, kind: "reduce", chunkCount: 2, totalBytes } as const;
    peer.bulk.write(encodeFrame(rawScope, header, new Uint8Array(CHUNK_BYTES)));
    peer.bulk.end();
    await assertAborts(sum, /was lost: its stream ended/);
  });

  it("ends the generation when a sum's chunk is of the wrong size", async () => {
    const sum = peer.group.allReduce(sharedFloats(200_000));
    const header = { ...part, kind: "reduce", totalBytes: 800_000 } as const;
    peer.bulk.write(encodeFrame(rawScope, header, floats));
    await assertAborts(sum, /MISMATCHED/);
  });

  it("ends the generation when data follows its goodbye", async () => {
    peer.small.write(encodeNotice(rawScope, "goodbye"));
    peer.small.write(whole);
    await assertAborts(peer.group.allGather(Float32Array.of(1, 2)), /gather after goodbye/);
  });
});
