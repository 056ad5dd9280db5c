import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, renameSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { findCheckpoint, newestCheckpointStep } from "../../worker/checkpoint/checkpoint-store.ts";
import { readScalars, tinyRecipe, untilExperiment, useCluster } from "../support/cluster.ts";
import { until } from "../support/until.ts";

const STEPS = 200;
/** Room for no checkpoint, and soon for no further line of the log. */
const LIMIT_BYTES = 4096;

describe("storage that fails while a stage is trained", function () {
  this.timeout(120_000);
  const suite = useCluster({ images: { train: STEPS, val: 2 }, workers: 1 });

  const recipe = () =>
    tinyRecipe(suite.data, {
      stages: ["pretrain"],
      pretrain: {
        workers: 1,
        batchPerWorker: 2,
        epochs: 1,
        optimizer: { type: "lars", lr: 0.3 },
        checkpoint: { everySteps: 2 },
        monitor: { knn: { enabled: false }, probe: { enabled: false } },
      },
    });
  const storeOf = (id: string): string =>
    path.join(suite.cluster.workDir, id, "pretrain", "checkpoints");
  /** Of the worker's log, lines with this message about this experiment. */
  const logged = (id: string, message: string): Record<string, unknown>[] =>
    suite.cluster.workers[0]!.stderr()
      .split("\n")
      .filter((line) => line.includes(message) && line.includes(id))
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  /** The end of a stage that stored everything it had to. */
  const assertWhole = async (id: string): Promise<void> => {
    await untilExperiment(suite.cluster, id, ({ state }) => state === "succeeded", 60_000);
    const found = findCheckpoint(storeOf(id), () => assert.fail("no checkpoint is damaged"));
    assert.equal(found?.manifest.step, STEPS);
    const steps = readScalars(suite.cluster, id, "pretrain").map(({ step }) => step);
    assert.deepEqual(
      steps,
      Array.from({ length: STEPS }, (_, index) => index + 1),
    );
    assert.ok(existsSync(path.join(suite.cluster.workDir, id, "pretrain", "result.json")));
  };

  it("goes on without room for files, says so, and writes once there is room", async () => {
    const { cluster } = suite;
    const limit = (bytes: number | "unlimited"): void => {
      const pid = String(cluster.workers[0]!.pid);
      execFileSync("prlimit", ["--pid", pid, `--fsize=${bytes}:unlimited`]);
    };
    const id = await suite.submit(recipe());
    const store = storeOf(id);
    await until("a checkpoint", () => newestCheckpointStep(store), 60_000);
    limit(LIMIT_BYTES);
    try {
      await until("both to be named", () => logged(id, "storage fails").length === 2, 30_000);
      const before = newestCheckpointStep(store);
      const { progress } = await untilExperiment(
        cluster,
        id,
        // More than one has been due since: training goes on.
        (shown) => (shown.progress?.checkpointFailures ?? 0) > 1,
        30_000,
      );
      assert.match(progress!.storageProblem!, new RegExp(`written to ${cluster.workDir}.*EFBIG`));
      assert.equal(newestCheckpointStep(store), before);
      assert.equal(progress!.checkpointStep, before);
    } finally {
      limit("unlimited");
    }
    await until("both to work", () => logged(id, "storage works again").length === 2, 30_000);
    await untilExperiment(cluster, id, (s) => s.progress?.storageProblem === undefined, 30_000);
    await assertWhole(id);
    const said = logged(id, "storage fails");
    assert.deepEqual([...new Set(said.map(({ what }) => what))].sort(), ["checkpoints", "log"]);
    assert.equal(said.length, 2, "each trouble is named once");
  });

  it("goes on when the checkpoints become a file, and when their folder is removed", async () => {
    const id = await suite.submit(recipe());
    const store = storeOf(id);
    await until("a checkpoint", () => newestCheckpointStep(store), 60_000);
    putFileInPlaceOf(store);
    await until("the worker to name it", () => logged(id, "storage fails").length > 0, 30_000);
    rmSync(store);
    await until("a new checkpoint", () => newestCheckpointStep(store), 30_000);
    // In one move: deleting file by file meets those that the worker writes meanwhile.
    renameSync(store, `${store}-removed`);
    await until("another one", () => newestCheckpointStep(store), 30_000);
    await assertWhole(id);
  });
});

/** Puts an empty file where a folder is, which its writer may make anew at any moment. */
function putFileInPlaceOf(folder: string): void {
  for (let attempt = 0; ; attempt++) {
    renameSync(folder, `${folder}-aside-${attempt}`);
    try {
      writeFileSync(folder, "", { flag: "wx" });
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
  }
}
