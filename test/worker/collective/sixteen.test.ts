import assert from "node:assert/strict";
import { CHUNK_BYTES } from "../../../worker/collective/frame-order.ts";
import { Prng } from "../../support/prng.ts";
import type { Operation } from "./checked-operations.ts";
import { type ProcessGang, startProcessGang } from "./process-gang.ts";

const WORLD_SIZE = 16;
const COUNT = 1000;
const WARM_AFTER = 200;
const MIB = 2 ** 20;
/** More than what happens to be on its way, less than 25 KB for each operation. */
const LIVE_GROWTH_BYTES_MAX = 16 * MIB;
/** The allocator keeps some of what is free, now more, now less. */
const RSS_GROWTH_MAX = 0.25;

const LARGEST_FLOATS = 1_000_000;
/** Every rank's buffer of the largest sum, and the slots of both neighbours. */
const SHARED_BYTES_MAX = WORLD_SIZE * 4 * LARGEST_FLOATS + 2 * 16 * CHUNK_BYTES + MIB;

/** What is drawn from, each as often as it stands here. Frames cost more than bytes do. */
const MIX: readonly Operation["kind"][] = [
  ...new Array<"all-reduce">(6).fill("all-reduce"),
  ...new Array<"all-gather">(6).fill("all-gather"),
  ...new Array<"barrier">(4).fill("barrier"),
  ...new Array<"broadcast">(3).fill("broadcast"),
  "reduce-scatter",
];
/** The largest all-reduce that takes one hop instead of the ring. */
const SMALL_FLOATS = 8192;

/** Mostly small ones, as in training; every 40th moves 1 to 4 MB per rank. */
function drawOperations(prng: Prng): Operation[] {
  return Array.from({ length: COUNT }, (_, index) => {
    if (index % 40 === 0) return { kind: "all-reduce", floats: prng.int(250_000, LARGEST_FLOATS) };
    const kind = MIX[prng.int(0, MIX.length - 1)]!;
    if (kind === "barrier") return { kind, floats: 0 };
    const floatsMax = prng.chance(0.1) ? 2 * SMALL_FLOATS : 2000;
    return { kind, floats: prng.int(0, floatsMax) };
  });
}

describe("a gang of 16 processes", function () {
  this.timeout(300_000);
  let gang: ProcessGang;
  afterEach(() => gang.end());

  it(`carries out ${COUNT} operations, each with the right result, in flat memory`, async () => {
    gang = await startProcessGang(WORLD_SIZE);
    gang.start({
      operations: drawOperations(new Prng(16)),
      count: COUNT,
      measureAfter: [WARM_AFTER, COUNT],
      // 16 processes on a few cores: who waits for a core is not to be taken for lost.
      join: { silenceTimeoutMs: 60_000 },
    });
    for (const member of gang.members) {
      const { aborts } = await member.told("closed");
      assert.deepEqual(member.all("failed"), []);
      assert.equal(aborts, 0);
      assert.deepEqual(member.all("wrong"), []);
      assert.equal(member.all("done").length, COUNT);
      const [warm, last] = member.all("memory");
      assert.ok(warm !== undefined && last !== undefined);
      const live = last.liveBytes - warm.liveBytes;
      assert.ok(live < LIVE_GROWTH_BYTES_MAX, `rank ${member.rank} keeps ${live} bytes more`);
      const growth = last.ownBytes / warm.ownBytes - 1;
      assert.ok(growth < RSS_GROWTH_MAX, `rank ${member.rank} has grown by ${growth}`);
      assert.ok(last.sharedBytes < SHARED_BYTES_MAX, `${last.sharedBytes} bytes shared`);
      assert.deepEqual(await member.exited, { code: 0, signal: null });
    }
  });
});
