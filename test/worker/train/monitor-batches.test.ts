/** Passes over a monitor's data with real loaders and a real engine thread's side. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { FleetError } from "../../../proto/errors.ts";
import { parseRecipe } from "../../../proto/recipe.ts";
import { openDataset } from "../../../worker/data/dataset.ts";
import { type Loaders, startLoaders } from "../../../worker/data/loaders.ts";
import { monitorPlan } from "../../../worker/session/load-plans.ts";
import { MonitorLoaders } from "../../../worker/session/monitor-loaders.ts";
import {
  CONTROL_STOP,
  CONTROL_WORDS,
  type MonitorJob,
  type MonitorSplit,
} from "../../../worker/train/stage-job.ts";
import { tinyRecipe } from "../../support/cluster.ts";
import { type SampleFolder, sampleFolder, samplePicture } from "../data/sample-data.ts";
import type { PassMessage, PassThreadData } from "./pass-thread.ts";

const IMAGES = 30;

describe("a monitor's pass", function () {
  this.timeout(20_000);
  let folder: SampleFolder;
  const closing: (() => Promise<unknown>)[] = [];

  before(() => {
    folder = sampleFolder();
    for (let i = 0; i < IMAGES; i++) {
      const name = `class${i % 2}/${String(i).padStart(2, "0")}.ppm`;
      for (const split of ["train", "val"]) folder.write(`${split}/${name}`, samplePicture(i));
    }
    folder.write("val/class0/broken.ppm", "no picture");
  });
  afterEach(async () => {
    for (const close of closing.splice(0)) await close();
  });
  after(() => folder.remove());

  /** Rank 0 of `worldSize`, at most `limit` images of each split. */
  async function open(options: {
    readonly worldSize: number;
    readonly limit: number;
    readonly splits: readonly MonitorSplit[];
    readonly start?: (start: () => Promise<Loaders>) => Promise<Loaders>;
  }) {
    const { worldSize, limit, splits, start = (begin) => begin() } = options;
    const recipe = parseRecipe(tinyRecipe(folder.path, {}));
    const datasets = {
      train: await openDataset(recipe.data, "train"),
      val: await openDataset(recipe.data, "val"),
    };
    const plan = monitorPlan(recipe, { rank: 0, worldSize, startStep: 0 }, limit);
    const control = new Int32Array(new SharedArrayBuffer(4 * CONTROL_WORDS));
    const skipped: string[] = [];
    const loaders = new MonitorLoaders(control, (split) =>
      start(() =>
        startLoaders({
          dataset: datasets[split],
          plan,
          threads: 1,
          onSkipped: ({ path }) => skipped.push(path),
        }),
      ),
    );
    closing.push(() => loaders.close());
    const splitJobs = {
      train: { plan, count: datasets.train.count },
      val: { plan, count: datasets.val.count },
    };
    const monitor: MonitorJob = { port: loaders.port, classes: 2, splits: splitJobs };
    const workerData: PassThreadData = { control, monitor, splits };
    const thread = new Worker(new URL("./pass-thread.js", import.meta.url), {
      workerData,
      transferList: [loaders.port],
    });
    closing.push(() => thread.terminate());
    return { control, loaders, thread, skipped };
  }

  /** Everything that the thread says, to its end. */
  async function heard(thread: Worker): Promise<PassMessage[]> {
    const messages: PassMessage[] = [];
    thread.on("message", (message: PassMessage) => messages.push(message));
    await once(thread, "exit");
    return messages;
  }

  it("takes a rank's share of a part that is spread evenly, split after split", async () => {
    const { thread } = await open({ worldSize: 2, limit: 12, splits: ["val", "train", "train"] });
    const messages = await heard(thread);
    // 12 of 31 and 12 of 30 images, of which rank 0 has every other; number 15 is broken in val.
    const part = [0, 5, 10, 15, 20, 25];
    const batches = messages.flatMap((message) =>
      message.type === "batch" ? [[message.split, message.indices]] : [],
    );
    assert.deepEqual(batches, [
      ["val", part.slice(0, 3)],
      ["val", part.slice(4)],
      ["train", part.slice(0, 4)],
      ["train", part.slice(4)],
      ["train", part.slice(0, 4)],
      ["train", part.slice(4)],
    ]);
    assert.deepEqual(messages.at(-1), { type: "end" });
  });

  it("leaves an unreadable image out, whatever the recipe's limit is", async () => {
    const { thread, skipped } = await open({ worldSize: 1, limit: 100, splits: ["val"] });
    const indices = (await heard(thread)).flatMap((message) =>
      message.type === "batch" ? message.indices : [],
    );
    assert.equal(indices.length, IMAGES);
    assert.equal(new Set(indices).size, IMAGES);
    assert.match(skipped.join(), /broken\.ppm$/);
  });

  it("ends at once when the stage is stopped in the middle of it", async () => {
    const endless = Array<MonitorSplit>(100_000).fill("train");
    const { control, loaders, thread } = await open({ worldSize: 1, limit: 30, splits: endless });
    await once(thread, "message");
    const rest = heard(thread);
    Atomics.store(control, CONTROL_STOP, 1);
    await loaders.close();
    const last = (await rest).at(-1);
    assert.ok(last?.type === "error" && last.error.code === "GENERATION_ABORTED");
  });

  it("ends when the stage is stopped while its loaders start", async () => {
    let begun!: () => void;
    let goOn!: () => void;
    const hasBegun = new Promise<void>((resolve) => {
      begun = resolve;
    });
    const mayGoOn = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    const { control, loaders, thread } = await open({
      worldSize: 1,
      limit: 30,
      splits: ["train"],
      start: async (begin) => {
        begun();
        await mayGoOn;
        return begin();
      },
    });
    const rest = heard(thread);
    await hasBegun;
    Atomics.store(control, CONTROL_STOP, 1);
    const closed = loaders.close();
    goOn();
    await closed;
    const last = (await rest).at(-1);
    assert.ok(last?.type === "error" && last.error.code === "GENERATION_ABORTED");
  });

  it("hands on why its loaders do not start", async () => {
    const { thread } = await open({
      worldSize: 1,
      limit: 30,
      splits: ["train"],
      start: () => Promise.reject(new FleetError("DATA_INVALID", "the disk is gone")),
    });
    const last = (await heard(thread)).at(-1);
    assert.ok(last?.type === "error" && last.error.code === "DATA_INVALID");
    assert.equal(last.error.message, "the disk is gone");
  });
});
