import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import type { Batch, BatchReader } from "../../../worker/data/batch-reader.ts";
import { logSamples, sampleLogName } from "../../../worker/train/sample-log.ts";
import { tempDir } from "../../support/processes.ts";

describe("sample log", () => {
  let dir = "";
  let remove = async (): Promise<void> => {};
  beforeEach(async () => {
    ({ dir, remove } = await tempDir());
  });
  afterEach(() => remove());

  /** Steps of two images, three steps an epoch, from `step` on; counts what is given back. */
  function batches(step: number) {
    const indices = new Int32Array(new SharedArrayBuffer(8));
    const given = { back: 0 };
    const reader: BatchReader = {
      next: () => {
        indices.set([10 * step, 10 * step + 1]);
        const epoch = Math.floor(step / 3);
        return { indices, count: 2, step, epoch } as unknown as Batch;
      },
      done: () => {
        step++;
        given.back++;
      },
    };
    return { reader, given };
  }

  it("has a line for each step that was given back, over generations", () => {
    const folder = path.join(dir, "not", "there", "yet");
    const first = batches(2);
    const own = logSamples(first.reader, { folder, generation: 4, rank: 1 });
    own.next();
    own.done();
    // Not applied: its gang broke up.
    own.next();
    assert.equal(first.given.back, 1);
    const next = logSamples(batches(3).reader, { folder, generation: 6, rank: 1 });
    next.next();
    next.done();

    const text = readFileSync(path.join(folder, sampleLogName(1)), "utf8");
    assert.deepEqual(
      text
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line)),
      [
        { generation: 4, step: 3, rank: 1, epoch: 0, images: [20, 21] },
        { generation: 6, step: 4, rank: 1, epoch: 1, images: [30, 31] },
      ],
    );
  });

  it("says which file cannot be written", () => {
    const blocked = path.join(dir, "file");
    writeFileSync(blocked, "");
    const folder = path.join(blocked, "stage");
    assert.throws(() => logSamples(batches(0).reader, { folder, generation: 1, rank: 0 }), {
      code: "STORAGE_FAILED",
      message: /samples-rank-0\.jsonl/,
    });
  });
});
