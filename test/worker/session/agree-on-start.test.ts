import assert from "node:assert/strict";
import type { CheckpointLocation } from "../../../worker/checkpoint/checkpoint-store.ts";
import type { Dataset } from "../../../worker/data/dataset.ts";
import { agreeOnStart, type Start } from "../../../worker/session/agree-on-start.ts";
import { formGang, type Gang } from "../collective/gang.ts";

const RANKS = 3;

describe("the start that ranks agree on", function () {
  this.timeout(10_000);
  let gang: Gang;
  before(async () => {
    gang = await formGang(RANKS);
  });
  after(() => gang.close());

  /**
   * @param found by rank 0: steps of its newest checkpoint and of the newest one that is whole
   * @param images that each rank finds
   */
  async function startOf(
    replicas: readonly number[],
    found: { readonly newest: number; readonly whole?: number },
    images = [6, 6, 6],
  ): Promise<Pick<Start, "step" | "source">> {
    const { newest, whole = newest } = found;
    const folder = `step-${whole}`;
    const location = { folder, manifest: { step: whole } } as CheckpointLocation;
    const starts = await gang.each(({ rank }) => {
      const onRank0 = (): void => assert.equal(rank, 0, "only rank 0 looks for checkpoints");
      return agreeOnStart(gang.groups[rank]!, {
        data: {
          train: { count: images[rank] } as Dataset,
          validation: undefined,
          monitor: undefined,
        },
        replicaStep: replicas[rank]!,
        newestCheckpointStep: () => {
          onRank0();
          return newest;
        },
        findCheckpoint: () => {
          onRank0();
          return whole === 0 ? undefined : location;
        },
      });
    });
    const [{ step, source }, ...others] = starts as [Start, ...Start[]];
    // The folder is the root's own affair.
    for (const other of others) {
      assert.equal(other.step, step);
      assert.deepEqual({ ...other.source, folder: "" }, { ...source, folder: "" });
    }
    return { step, source };
  }

  it("is the beginning when nobody has anything", async () => {
    assert.deepEqual(await startOf([0, 0, 0], { newest: 0 }), {
      step: 0,
      source: { type: "initial" },
    });
  });

  it("is the newest state that any rank has in memory, which others take from it", async () => {
    const started = await startOf([0, 9, 8], { newest: 9 });
    assert.deepEqual(started, { step: 9, source: { type: "replica", root: 1 } });
  });

  it("sends no state around when every rank has it", async () => {
    const started = await startOf([9, 9, 9], { newest: 5 });
    assert.deepEqual(started, { step: 9, source: { type: "replica", root: undefined } });
  });

  it("is a checkpoint that is newer than all memory", async () => {
    const started = await startOf([3, 0, 3], { newest: 5 });
    const source = { type: "checkpoint", folder: "step-5", root: 0 };
    assert.deepEqual(started, { step: 5, source });
  });

  it("is the checkpoint before a damaged one, unless a rank has something newer", async () => {
    const checkpoint = await startOf([3, 0, 0], { newest: 9, whole: 4 });
    const source = { type: "checkpoint", folder: "step-4", root: 0 };
    assert.deepEqual(checkpoint, { step: 4, source });
    const replica = await startOf([7, 0, 0], { newest: 9, whole: 4 });
    assert.deepEqual(replica, { step: 7, source: { type: "replica", root: 0 } });
    const nothing = await startOf([0, 0, 0], { newest: 9, whole: 0 });
    assert.deepEqual(nothing, { step: 0, source: { type: "initial" } });
  });

  it("is none for ranks that see different images", async () => {
    await assert.rejects(startOf([0, 0, 0], { newest: 0 }, [6, 6, 7]), {
      code: "DATA_INVALID",
      message: /rank 2 finds 7 training images, rank 0 finds 6/,
    });
  });
});
