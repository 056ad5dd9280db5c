import assert from "node:assert/strict";
import { existsSync, readdirSync, truncateSync } from "node:fs";
import path from "node:path";
import type { RecipeInput } from "../../proto/recipe.ts";
import {
  readWeights,
  type ShownExperiment,
  tinyRecipe,
  untilExperiment,
  useCluster,
  writeImages,
} from "../support/cluster.ts";
import { startNode, WORKER_MAIN } from "../support/processes.ts";
import { until } from "../support/until.ts";

describe("a cluster that is given bad input", function () {
  this.timeout(120_000);
  const suite = useCluster({ images: { train: 16, val: 4 }, workers: 2 });

  before(async () => {
    await writeImages(path.join(suite.dir, "broken"), { train: 16, val: 4 });
    truncateSync(path.join(suite.dir, "broken/train/class1/003.jpg"), 200);
  });

  async function submit(root: string, parts: Partial<RecipeInput>): Promise<string> {
    const pretrain = {
      workers: 2,
      batchPerWorker: 4,
      epochs: 2,
      optimizer: { type: "lars" as const, lr: 0.1 },
    };
    return await suite.submit(tinyRecipe(root, { stages: ["pretrain"], pretrain, ...parts }));
  }

  async function failure(id: string): Promise<ShownExperiment> {
    return await untilExperiment(suite.cluster, id, ({ state }) => state === "failed", 60_000);
  }

  it("names, counts and replaces an image that cannot be read", async () => {
    const id = await submit(path.join(suite.dir, "broken"), {});
    const isOver = ({ state }: ShownExperiment): boolean => state === "succeeded";
    await untilExperiment(suite.cluster, id, isOver, 60_000);
    const logs = suite.cluster.workers.map((worker) => worker.stderr()).join("");
    assert.match(logs, /class1\/003\.jpg/);
  });

  it("fails with the file's name when more images are unreadable than allowed", async () => {
    const { data } = tinyRecipe(path.join(suite.dir, "broken"), {});
    const { errorCode, reason } = await failure(
      await submit(path.join(suite.dir, "broken"), { data: { ...data, skipLimit: 0 } }),
    );
    assert.equal(errorCode, "DATA_INVALID");
    assert.match(reason, /class1\/003\.jpg/);
  });

  it("fails with the folder's name when there is no data", async () => {
    const absent = path.join(suite.dir, "absent");
    const { errorCode, reason } = await failure(await submit(absent, {}));
    assert.equal(errorCode, "DATA_INVALID");
    assert.ok(reason.includes(absent), reason);
  });

  it("stops at the step whose loss is not finite, and keeps the last good checkpoint", async () => {
    const id = await submit(suite.data, {
      pretrain: {
        workers: 2,
        batchPerWorker: 4,
        epochs: 4,
        optimizer: { type: "sgd", lr: 1e30 },
        checkpoint: { everySteps: 1 },
      },
    });
    const { errorCode, reason } = await failure(id);
    assert.equal(errorCode, "LOSS_NOT_FINITE");
    assert.match(reason, /rank \d.*step \d+/);

    const store = path.join(suite.cluster.workDir, id, "pretrain", "checkpoints");
    const list = () => readdirSync(store).filter((name) => !name.startsWith(".generation-"));
    // The step that was refused may have come while the one before was still being stored.
    await until("writes to end", () => list().every((name) => name.startsWith("step-")));
    const kept = list();
    if (kept.length === 0) return;
    for (const [name, values] of readWeights(suite.cluster, id, "pretrain")) {
      assert.ok(Array.from(values, Number).every(Number.isFinite), name);
    }
  });

  it("fails when the linear stage finds other classes than the recipe says", async () => {
    const { linear } = tinyRecipe("", {});
    const { errorCode, reason } = await failure(
      await submit(suite.data, {
        stages: ["linear"],
        linear: { ...linear, init: "random", classes: 5 },
      }),
    );
    assert.equal(errorCode, "DATA_INVALID");
    assert.match(reason, /5/);
  });

  it("names a backbone checkpoint that is not there", async () => {
    const { linear } = tinyRecipe("", {});
    const init = path.join(suite.dir, "no-checkpoint");
    const { errorCode, reason } = await failure(
      await submit(suite.data, { stages: ["linear"], linear: { ...linear, init } }),
    );
    assert.equal(errorCode, "NOT_FOUND");
    assert.ok(reason.includes(init), reason);
  });

  it("refuses a backbone file of another model, and says which it is", async () => {
    const { linear } = tinyRecipe("", {});
    const init = path.resolve("test/fixtures/checkpoint/training.pth");
    const { errorCode, reason } = await failure(
      await submit(suite.data, { stages: ["linear"], linear: { ...linear, init } }),
    );
    assert.equal(errorCode, "CHECKPOINT_INVALID");
    assert.match(reason, /has a ResNet-18 of width 0\.03125, the recipe wants/);
  });

  it("has all its workers idle afterwards, ready for the next experiment", async () => {
    const workers = await suite.cluster.json<{ state: string }[]>("workers");
    assert.deepEqual(
      workers.map(({ state }) => state),
      ["idle", "idle"],
    );
    const id = await submit(suite.data, {});
    await untilExperiment(suite.cluster, id, ({ state }) => state === "succeeded", 60_000);
  });
});

describe("`worker start` that cannot work", function () {
  this.timeout(30_000);
  const check = async (args: readonly string[], code: number, message: RegExp): Promise<void> => {
    const flags = ["--log-level", "silent", "--connect-timeout", "0.5"];
    const exit = await startNode([WORKER_MAIN, "start", ...flags, ...args]).exited();
    assert.equal(exit.code, code, exit.stderr);
    assert.match(exit.stderr, message);
    assert.equal(exit.stderr.trim().split("\n").length, 1, `one line: ${exit.stderr}`);
  };

  it("names the engines when asked for one that does not exist", () =>
    check(["--engine", "abacus"], 2, /abacus.*tfjs:wasm/));

  it("names every bad option", () =>
    check(["--threads", "0", "--coordinator", "nowhere"], 2, /--coordinator.*--threads/));

  it("says that no coordinator answers", () =>
    check(["--engine", "tfjs:wasm", "--coordinator", "127.0.0.1:1"], 11, /127\.0\.0\.1:1/));

  if (!existsSync("/dev/nvidia0")) {
    it("says why the GPU engine does not load on a machine without a GPU", () =>
      check(["--engine", "tfjs:node-gpu"], 10, /tfjs:node-gpu is not available: .+/));
  }
});
