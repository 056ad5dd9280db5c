/** No frame that differs from a valid one is taken for valid, and none does any harm. */

import assert from "node:assert/strict";
import { FleetError } from "../../../proto/errors.ts";
import {
  decodeFrame,
  encodeFrame,
  encodeNotice,
  type FrameScope,
  HEADER_BYTES,
  hashExperiment,
} from "../../../worker/collective/frame.ts";
import { Prng } from "../../support/prng.ts";

const MUTANTS = 100_000;
const SEED = 20_261_124;

const scope: FrameScope = { experimentHash: hashExperiment("e1"), generation: 4, source: 1 };
const FRAMES = validFrames(new Prng(SEED));

/** Each may change the frame it gets. What is valid again, by chance, does not count. */
const MUTATIONS: Readonly<Record<string, (frame: Buffer, prng: Prng) => Buffer>> = {
  "one bit flipped": (frame, prng) => {
    frame[placeIn(frame, prng)]! ^= 1 << prng.int(0, 7);
    return frame;
  },
  "several bits flipped": (frame, prng) => {
    for (let i = prng.int(2, 20); i > 0; i--) frame[placeIn(frame, prng)]! ^= 1 << prng.int(0, 7);
    return frame;
  },
  "a bit of the header flipped": (frame, prng) => {
    frame[prng.int(0, HEADER_BYTES - 1)]! ^= 1 << prng.int(0, 7);
    return frame;
  },
  truncated: (frame, prng) => frame.subarray(0, prng.int(0, frame.length - 1)),
  "cut at the front": (frame, prng) => frame.subarray(prng.int(1, frame.length)),
  extended: (frame, prng) => Buffer.concat([frame, noise(prng.int(1, 100), prng)]),
  "shifted by bytes in front": (frame, prng) => Buffer.concat([noise(prng.int(1, 9), prng), frame]),
  "two words of the header swapped": (frame, prng) => {
    const words = HEADER_BYTES / 4;
    const [one, other] = [4 * prng.int(0, words - 1), 4 * prng.int(0, words - 1)];
    const word = frame.readUInt32LE(one);
    frame.writeUInt32LE(frame.readUInt32LE(other), one);
    frame.writeUInt32LE(word, other);
    return frame;
  },
  "a word of the header replaced": (frame, prng) => {
    const extremes = [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, frame.length];
    const word = extremes[prng.int(0, extremes.length - 1)]!;
    frame.writeUInt32LE(word, 4 * prng.int(0, HEADER_BYTES / 4 - 1));
    return frame;
  },
  "one header before another payload": (frame, prng) =>
    Buffer.concat([frame.subarray(0, HEADER_BYTES), drawFrame(prng).subarray(HEADER_BYTES)]),
  "spliced from two": (frame, prng) => {
    const other = drawFrame(prng);
    const at = prng.int(1, Math.min(frame.length, other.length) - 1);
    return Buffer.concat([frame.subarray(0, at), other.subarray(at)]);
  },
  "two in one": (frame, prng) => Buffer.concat([frame, drawFrame(prng)]),
  "a range zeroed": (frame, prng) => {
    const { begin, end } = rangeIn(frame, prng);
    return frame.fill(0, begin, end);
  },
  "a range repeated": (frame, prng) => {
    const { begin, end } = rangeIn(frame, prng);
    return Buffer.concat([frame.subarray(0, end), frame.subarray(begin)]);
  },
  "a range moved": (frame, prng) => {
    const { begin, end } = rangeIn(frame, prng);
    frame.copyWithin(prng.int(0, frame.length - 1), begin, end);
    return frame;
  },
  "of an older generation": (frame, prng) =>
    recoded(frame, { ...scope, generation: prng.int(0, 3) }),
  "of another rank": (frame, prng) => recoded(frame, { ...scope, source: prng.int(2, 15) }),
  "of another experiment": (frame, prng) =>
    recoded(frame, { ...scope, experimentHash: noise(8, prng) }),
  noise: (frame, prng) => noise(frame.length, prng),
  "noise behind a valid beginning": (frame, prng) => {
    const at = prng.int(4, frame.length);
    return Buffer.concat([frame.subarray(0, at), noise(frame.length - at, prng)]);
  },
};

describe("the frame decoder", function () {
  this.timeout(60_000);

  it("takes every frame that the mutants are made of", () => {
    for (const frame of FRAMES) decodeFrame(frame, scope);
  });

  it(`refuses ${MUTANTS} mutants, each with a fault, and survives them`, () => {
    const prng = new Prng(SEED);
    const valid = new Set(FRAMES.map((frame) => frame.toString("latin1")));
    const counts = new Map<string, number>();
    const faults = new Map<string, number>();
    const accepted: string[] = [];
    const kinds = Object.entries(MUTATIONS);
    for (let done = 0; done < MUTANTS; ) {
      const [kind, mutate] = kinds[prng.int(0, kinds.length - 1)]!;
      const mutant = mutate(Buffer.from(drawFrame(prng)), prng);
      if (valid.has(mutant.toString("latin1"))) continue;
      done++;
      count(counts, kind);
      const fault = faultOf(mutant);
      if (fault === undefined) accepted.push(`${kind}: ${mutant.toString("hex")}`);
      else count(faults, fault);
    }
    assert.deepEqual(accepted, []);
    const rare = kinds.filter(([kind]) => (counts.get(kind) ?? 0) < MUTANTS / kinds.length / 2);
    assert.deepEqual(rare, [], "every kind of mutation has had its share");
    assert.deepEqual([...faults.keys()].sort(), ["CORRUPT", "FOREIGN", "MALFORMED", "TRUNCATED"]);
  });
});

/** What the decoder says is wrong; undefined when it accepts. Anything else it throws is thrown. */
function faultOf(bytes: Buffer): string | undefined {
  try {
    decodeFrame(bytes, scope);
    return undefined;
  } catch (thrown) {
    if (!(thrown instanceof FleetError)) throw thrown;
    assert.equal(thrown.code, "GENERATION_ABORTED");
    return String(thrown.detail["fault"]);
  }
}

/** Notices and data of every kind, from empty ones to such as are longer than a page. */
function validFrames(prng: Prng): Buffer[] {
  const where = { sequence: 3, round: 0, chunkIndex: 0, chunkCount: 1 };
  const notices = (["alive", "goodbye", "seen"] as const).map((kind) => encodeNotice(scope, kind));
  const hello = encodeNotice(scope, "hello", { json: { worker: "w1", worldSize: 2, wire: "f32" } });
  const abort = encodeNotice(scope, "abort", { json: { code: "UNEXPECTED", message: "x" } });
  const begin = encodeNotice(scope, "start-reduce", { sequence: 3, totalBytes: 8192 });
  const data = [0, 4, 64, 1024, 8192].flatMap((bytes) =>
    (["gather", "sum", "reduce", "scatter", "broadcast"] as const).map((kind) =>
      encodeFrame(scope, { ...where, kind, dtype: "f32", totalBytes: bytes }, noise(bytes, prng)),
    ),
  );
  const middle = { ...where, round: 2, chunkIndex: 1, chunkCount: 3, totalBytes: 6144 };
  const chunk = encodeFrame(scope, { ...middle, kind: "reduce", dtype: "bf16" }, noise(2048, prng));
  return [...notices, hello, abort, begin, ...data, chunk];
}

function drawFrame(prng: Prng): Buffer {
  return FRAMES[prng.int(0, FRAMES.length - 1)]!;
}

/** As a sender of another scope would have written it, checksum and all. */
function recoded(frame: Buffer, other: FrameScope): Buffer {
  const decoded = decodeFrame(frame, scope);
  return encodeFrame(other, decoded, decoded.payload);
}

function noise(bytes: number, prng: Prng): Buffer {
  return Buffer.from(Array.from({ length: bytes }, () => prng.int(0, 255)));
}

function placeIn(frame: Buffer, prng: Prng): number {
  return prng.int(0, frame.length - 1);
}

function rangeIn(frame: Buffer, prng: Prng): { readonly begin: number; readonly end: number } {
  const begin = prng.int(0, frame.length - 1);
  return { begin, end: prng.int(begin + 1, frame.length) };
}

function count(counts: Map<string, number>, key: string): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}
