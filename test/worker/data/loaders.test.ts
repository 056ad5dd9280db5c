import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { truncateSync } from "node:fs";
import path from "node:path";
import { Worker } from "node:worker_threads";
import sharp from "sharp";
import type { AugmentationRecipe } from "../../../proto/recipe.ts";
import { type BatchReader, openBatches } from "../../../worker/data/batch-reader.ts";
import { type Dataset, openDataset } from "../../../worker/data/dataset.ts";
import type { LinearPlan, LoadPlan, ValidationPlan } from "../../../worker/data/load-plan.ts";
import type { Skip } from "../../../worker/data/loader.ts";
import { type Loaders, startLoaders } from "../../../worker/data/loaders.ts";
import type { ReaderMessage } from "./reader-thread.ts";
import {
  dataRecipe,
  planOf,
  type SampleFolder,
  sampleFolder,
  samplePicture,
  tarOf,
} from "./sample-data.ts";

const IMAGES = 18;
const SIZE = 8;

const AUGMENTATION: AugmentationRecipe = {
  crop: { scale: [0.08, 1], ratio: [3 / 4, 4 / 3] },
  flip: 0.5,
  jitter: { probability: 0.8, brightness: 0.8, contrast: 0.8, saturation: 0.8, hue: 0.2 },
  grayscale: 0.2,
  blur: { probability: 0.5, sigma: [0.1, 2] },
};
const COMMON = planOf(SIZE);
const TRAINING = { ...COMMON, ranks: 1, epochs: 2, startStep: 0, dropLast: false };
const PRETRAIN = { ...TRAINING, kind: "pretrain", augmentation: AUGMENTATION } as const;
const LINEAR: LinearPlan = { ...TRAINING, kind: "linear", crop: AUGMENTATION.crop, flip: 0.5 };
const VALIDATION: ValidationPlan = { ...COMMON, kind: "validation", resizeEdge: 9, passes: 1 };

/** What a batch was, after its memory went back. */
interface Seen {
  readonly step: number;
  readonly epoch: number;
  readonly isLastOfEpoch: boolean;
  readonly count: number;
  readonly indices: readonly number[];
  readonly labels: readonly number[];
  /** Hash of all views of each image. */
  readonly views: readonly string[];
}

describe("loaders", function () {
  // Starting a thread takes a while on a busy machine.
  this.timeout(20_000);

  let folder: SampleFolder;
  let dataset: Dataset;
  beforeEach(async () => {
    folder = sampleFolder();
    for (let i = 0; i < IMAGES; i++) folder.write(pictureName(i), samplePicture(i));
    dataset = await openDataset(dataRecipe(folder.path, { path: "train" }), "train");
  });
  afterEach(() => folder.remove());

  /** Reads a whole plan. */
  const load = async (plan: LoadPlan, threads = 1): Promise<Seen[]> => {
    const loaders = await startLoaders({ dataset, plan, threads, onSkipped: () => assert.fail() });
    const seen = readAll(openBatches(loaders.shared), plan.imageSize);
    await loaders.close();
    return seen;
  };

  it("give the same batches whatever the number of threads", async () => {
    const one = await load(PRETRAIN, 1);
    assert.deepEqual(await load(PRETRAIN, 3), one);
    assert.equal(new Set(one.flatMap(({ views }) => views)).size, 2 * IMAGES);
  });

  it("give the same global batches whatever the number of workers", async () => {
    const globalSteps = async (worldSize: number, batchPerWorker: number): Promise<string[]> => {
      const ranks = Array.from({ length: worldSize }, (_, rank) => rank);
      const runs = await Promise.all(
        ranks.map((rank) => load({ ...PRETRAIN, rank, worldSize, batchPerWorker })),
      );
      return runs[0]!.map((_, step) =>
        runs
          .flatMap((run) => run[step]!.views.map((view, i) => `${run[step]!.indices[i]} ${view}`))
          .sort()
          .join(),
      );
    };
    assert.deepEqual(await globalSteps(3, 2), await globalSteps(1, 6));
  });

  it("go on at any step with the batches of an uninterrupted run", async () => {
    const whole = await load(PRETRAIN);
    for (const startStep of [3, 5, 9]) {
      assert.deepEqual(await load({ ...PRETRAIN, startStep }), whole.slice(startStep));
    }
    assert.deepEqual(await load({ ...PRETRAIN, startStep: 10 }), []);
  });

  it("make the last batch of an epoch smaller, or leave it out", async () => {
    const kept = await load(LINEAR);
    assert.deepEqual(
      kept.map(({ count }) => count),
      [4, 4, 4, 4, 2, 4, 4, 4, 4, 2],
    );
    assert.deepEqual(
      kept.map(({ step }) => step),
      [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    );
    assert.deepEqual(
      kept.map(({ epoch }) => epoch),
      [0, 0, 0, 0, 0, 1, 1, 1, 1, 1],
    );
    const ends = kept.filter(({ isLastOfEpoch }) => isLastOfEpoch).map(({ step }) => step);
    assert.deepEqual(ends, [4, 9]);
    const dropped = await load({ ...LINEAR, dropLast: true });
    assert.deepEqual(
      dropped.map(({ count }) => count),
      [4, 4, 4, 4, 4, 4, 4, 4],
    );
    assert.deepEqual(dropped[4]!.indices, kept[5]!.indices);
    await assert.rejects(load({ ...LINEAR, dropLast: true, batchPerWorker: 19 }), {
      code: "DATA_INVALID",
      message: /18 images make no full batch of 1 workers x 19 images/,
    });
  });

  it("label every image", async () => {
    for (const { indices, labels } of await load(LINEAR)) {
      assert.deepEqual(
        labels,
        indices.map((index) => dataset.labels[index]),
      );
    }
  });

  it("give each validation image once a pass, in order, over all ranks", async () => {
    const plan = { ...VALIDATION, worldSize: 4, passes: 2 };
    for (const rank of [0, 1, 2, 3]) {
      const seen = await load({ ...plan, rank });
      const share = Array.from({ length: rank < 2 ? 5 : 4 }, (_, i) => rank + 4 * i);
      assert.deepEqual(
        seen.flatMap(({ indices }) => indices),
        [...share, ...share],
      );
      const ends = seen.filter(({ isLastOfEpoch }) => isLastOfEpoch);
      assert.deepEqual(
        ends.map(({ epoch }) => epoch),
        [0, 1],
      );
    }
    assert.deepEqual(await load({ ...plan, rank: 20, worldSize: 21 }), []);
  });

  it("write one plane per channel", async () => {
    const validation = { ...VALIDATION, imageSize: 10, resizeEdge: 10, batchPerWorker: 1 };
    const loaders = await startLoaders({
      dataset,
      plan: validation,
      threads: 1,
      onSkipped: () => assert.fail(),
    });
    const batch = openBatches(loaders.shared).next();
    // The picture has 12 columns, of which the centre crop leaves out the first.
    const picture = samplePicture(0).subarray(-12 * 10 * 3);
    for (const channel of [0, 1, 2]) {
      assert.equal(batch?.pixels[channel * 100], picture[3 + channel]);
      assert.equal(batch?.pixels[channel * 100 + 11], picture[(12 + 2) * 3 + channel]);
    }
    await loaders.close();
  });

  it("read tar files", async () => {
    const members = Array.from({ length: IMAGES }, (_, i) => ({
      name: pictureName(i),
      contents: samplePicture(i),
    }));
    folder.write("train.tar", tarOf(members));
    const files = await load(PRETRAIN);
    dataset = await openDataset(dataRecipe(folder.path, { path: "train.tar" }), "train");
    assert.deepEqual(await load(PRETRAIN, 2), files);
  });

  describe("with images that cannot be read", () => {
    const loadSkipping = async (plan: LoadPlan): Promise<{ seen: Seen[]; skips: Skip[] }> => {
      const skips: Skip[] = [];
      const onSkipped = (skip: Skip): number => skips.push(skip);
      const loaders = await startLoaders({ dataset, plan, threads: 2, onSkipped });
      try {
        return { seen: readAll(openBatches(loaders.shared), plan.imageSize), skips };
      } finally {
        await loaders.close();
      }
    };
    const damage = async (): Promise<void> => {
      const raw = { width: 12, height: 10, channels: 3 } as const;
      const pixels = samplePicture(3).subarray(-12 * 10 * 3);
      const jpeg = await sharp(pixels, { raw }).jpeg().toBuffer();
      folder.write(pictureName(3), jpeg.subarray(0, jpeg.length - 40));
      folder.write(pictureName(4), "not an image");
      folder.write(pictureName(10), "");
      truncateSync(path.join(folder.path, pictureName(17)), 100);
    };

    it("replace each by the next readable one, and name it once", async () => {
      const intact = await load(LINEAR);
      await damage();
      const { seen, skips } = await loadSkipping(LINEAR);
      const nextOf: Readonly<Record<number, number>> = { 3: 5, 4: 5, 10: 11, 17: 0 };
      for (const [step, { indices, labels }] of seen.entries()) {
        const expected = intact[step]!.indices.map((index) => nextOf[index] ?? index);
        assert.deepEqual(indices, expected);
        assert.deepEqual(
          labels,
          expected.map((index) => dataset.labels[index]),
        );
      }
      assert.deepEqual(skips.map(({ total }) => total).sort(), [1, 2, 3, 4]);
      const reasons = new Map(skips.map((skip) => [skip.path, skip.reason]));
      const reasonOf = (i: number): string =>
        reasons.get(path.join(folder.path, pictureName(i))) ?? "";
      assert.match(reasonOf(3), /cannot be decoded: .*premature/i);
      assert.match(reasonOf(4), /is not a JPEG, PNG/);
      assert.match(reasonOf(10), /is empty/);
      assert.match(reasonOf(17), /is truncated/);
    });

    it("leave the other images' views alone", async () => {
      const intact = await load(PRETRAIN);
      await damage();
      const { seen } = await loadSkipping(PRETRAIN);
      const views = (run: readonly Seen[]): string[] =>
        run.flatMap((batch) => batch.indices.map((index, i) => `${index} ${batch.views[i]}`));
      const before = new Set(views(intact));
      const kept = views(seen).filter((view) => before.has(view));
      assert.equal(kept.length, 2 * (IMAGES - 4));
    });

    it("fail past the limit, naming count, limit and file", async () => {
      await damage();
      await assert.rejects(loadSkipping({ ...LINEAR, skipLimit: 3 }), {
        code: "DATA_INVALID",
        message: /^4 images cannot be read, more than the limit of 3 .*: .*\.ppm (is|cannot)/,
      });
    });

    it("leave a validation image out, and say so", async () => {
      await damage();
      const { seen, skips } = await loadSkipping({ ...VALIDATION, batchPerWorker: 1, passes: 2 });
      const readable = Array.from({ length: IMAGES }, (_, i) => i).filter(
        (i) => ![3, 4, 10, 17].includes(i),
      );
      assert.deepEqual(
        seen.flatMap(({ indices }) => indices),
        [...readable, ...readable],
      );
      assert.equal(seen.length, 2 * IMAGES);
      assert.equal(seen.at(-1)?.count, 0);
      assert.equal(skips.length, 4);
      const together = await loadSkipping({ ...VALIDATION, batchPerWorker: 6 });
      assert.deepEqual(
        together.seen.map(({ count }) => count),
        [4, 5, 5],
      );
      assert.deepEqual(together.seen[0]?.indices, [0, 1, 2, 5]);
      const alone = await loadSkipping({ ...VALIDATION, batchPerWorker: 1 });
      assert.equal(together.seen[0]?.views[3], alone.seen[5]?.views[0]);
    });

    it("fail when not one image is readable", async () => {
      for (let i = 0; i < IMAGES; i++) folder.write(pictureName(i), "gone");
      await assert.rejects(loadSkipping({ ...LINEAR, skipLimit: 1000 }), {
        code: "DATA_INVALID",
        message: "none of the 18 images can be read",
      });
    });

    it("name an annotated file that does not exist", async () => {
      folder.write("list.txt", "0/00.ppm 0\nnowhere.jpg 1\n");
      const recipe = dataRecipe(folder.path, { path: "train", annotations: "list.txt" });
      dataset = await openDataset(recipe, "train");
      const { skips } = await loadSkipping({ ...LINEAR, batchPerWorker: 2 });
      assert.equal(skips.length, 1);
      assert.match(skips[0]?.path ?? "", /nowhere\.jpg$/);
      assert.match(skips[0]?.reason ?? "", /ENOENT/);
    });
  });

  describe("read by another thread", () => {
    const read = (loaders: Loaders): Worker => {
      const file = new URL(`./reader-thread${path.extname(import.meta.url)}`, import.meta.url);
      return new Worker(file, { workerData: loaders.shared });
    };
    const untilEnd = async (reader: Worker): Promise<ReaderMessage[]> => {
      const messages: ReaderMessage[] = [];
      reader.on("message", (message: ReaderMessage) => messages.push(message));
      await once(reader, "exit");
      return messages;
    };

    it("may work in the calling thread", async () => {
      const plan = { ...PRETRAIN, epochs: 3 };
      const onSkipped = (): void => assert.fail();
      const loaders = await startLoaders({ dataset, plan, threads: 0, onSkipped });
      const messages = await untilEnd(read(loaders));
      assert.equal(messages.length, 16);
      assert.deepEqual(messages.at(-2), { type: "batch", step: 14, count: 2 });
      assert.deepEqual(messages.at(-1), { type: "end" });
      await loaders.close();
    });

    it("wake it with GENERATION_ABORTED when they are closed", async () => {
      const plan = { ...PRETRAIN, epochs: 1_000_000 };
      const onSkipped = (): void => assert.fail();
      const loaders = await startLoaders({ dataset, plan, threads: 1, onSkipped });
      const reader = read(loaders);
      const ended = untilEnd(reader);
      await once(reader, "message");
      await loaders.close();
      const last = (await ended).at(-1);
      assert.ok(last?.type === "error");
      assert.equal(last.error.code, "GENERATION_ABORTED");
    });

    it("wake it when a loader breaks", async () => {
      const plan = { ...PRETRAIN, augmentation: undefined } as unknown as LoadPlan;
      const onSkipped = (): void => assert.fail();
      const loaders = await startLoaders({ dataset, plan, threads: 1, onSkipped });
      const [only] = await untilEnd(read(loaders));
      assert.ok(only?.type === "error");
      assert.equal(only.error.code, "UNEXPECTED");
      await loaders.close();
    });

    it("leave no thread behind when they are closed in the middle", async () => {
      const name = `./close-mid-run-thread${path.extname(import.meta.url)}`;
      const plan = { ...PRETRAIN, epochs: 1_000_000 };
      const owner = new Worker(new URL(name, import.meta.url), { workerData: { dataset, plan } });
      const step = once(owner, "message");
      const [code] = await once(owner, "exit");
      assert.equal(code, 0);
      assert.deepEqual(await step, [0]);
    });
  });
});

/** Three classes of six images. */
function pictureName(i: number): string {
  return `train/${Math.floor(i / 6)}/${String(i).padStart(2, "0")}.ppm`;
}

function readAll(reader: BatchReader, imageSize: number): Seen[] {
  const seen: Seen[] = [];
  for (let batch = reader.next(); batch !== undefined; batch = reader.next()) {
    const { step, epoch, isLastOfEpoch, count, views, pixels } = batch;
    const bytes = views * 3 * imageSize ** 2;
    assert.equal(pixels.length, count * bytes);
    const hashes = Array.from({ length: count }, (_, i) =>
      createHash("sha256")
        .update(pixels.subarray(i * bytes, (i + 1) * bytes))
        .digest("hex"),
    );
    const [indices, labels] = [[...batch.indices], [...batch.labels]];
    seen.push({ step, epoch, isLastOfEpoch, count, indices, labels, views: hashes });
    reader.done();
  }
  return seen;
}
