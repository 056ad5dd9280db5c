import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseRecipe } from "../../../proto/recipe.ts";
import { findRecipe } from "../../../proto/recipes/registry.ts";
import { newestCheckpointStep } from "../../../worker/checkpoint/checkpoint-store.ts";
import { soloGroup } from "../../../worker/collective/process-group.ts";
import type { BatchReader } from "../../../worker/data/batch-reader.ts";
import { CheckpointHost } from "../../../worker/session/checkpoint-host.ts";
import { CheckpointSender } from "../../../worker/train/checkpoint-sender.ts";
import type { Trained } from "../../../worker/train/checkpoint-writer.ts";
import { ReplicaKeeper } from "../../../worker/train/replica.ts";
import { CONTROL_WORDS, type StageJob } from "../../../worker/train/stage-job.ts";
import { silentLog } from "../../../worker/train/stage-log.ts";
import { type StageSteps, TrainingLoop } from "../../../worker/train/training-loop.ts";

describe("a training loop that is taken up after its last step, from a peer's memory", function () {
  this.timeout(20_000);
  const STEP = 40;
  let folder: string;
  let host: CheckpointHost;
  beforeEach(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), "training-loop-"));
    host = new CheckpointHost();
  });
  afterEach(async () => {
    await host.close();
    rmSync(folder, { recursive: true, force: true });
  });

  const tensors = new Map([["fc.weight", { shape: [1], data: Float32Array.of(1) }]]);
  const model: Trained = {
    exportState: () => ({ tensors, batchesTracked: STEP }),
    exportVelocities: () => tensors,
    importState: () => {},
    importVelocities: () => {},
  };
  const atEnd: BatchReader = { next: () => undefined, done: () => {} };
  const steps = { model } as StageSteps;
  const open = (store: string) => {
    const job: Partial<StageJob> = {
      experimentId: "e1",
      stage: "pretrain",
      generation: 2,
      rank: 0,
      worldSize: 1,
      recipe: parseRecipe(findRecipe("demo")),
      trainImages: 64,
      startStep: STEP,
      source: { type: "replica", root: undefined },
      control: new Int32Array(new SharedArrayBuffer(4 * CONTROL_WORDS)),
    };
    const replicas = new ReplicaKeeper();
    const loop = new TrainingLoop({
      job: job as StageJob,
      group: soloGroup,
      log: silentLog(),
      checkpoints: new CheckpointSender(host.open({ store, keep: 1 }, () => {}).link),
      replicas,
      send: () => {},
    });
    return { loop, replicas };
  };

  it("ends only when that state is durable", () => {
    const store = path.join(folder, "checkpoints");
    open(store).loop.run(atEnd, steps);
    assert.equal(newestCheckpointStep(store), STEP);
  });

  it("keeps the state in memory when it cannot be stored", () => {
    const store = path.join(folder, "file");
    writeFileSync(store, "");
    const { loop, replicas } = open(store);
    assert.throws(() => loop.run(atEnd, steps), { code: "STORAGE_FAILED" });
    assert.equal(replicas.find({ experimentId: "e1", stage: "pretrain" })?.step, STEP);
  });
});
