import assert from "node:assert/strict";
import sharp from "sharp";
import { parseRecipe, type Recipe } from "../../../proto/recipe.ts";
import { demo } from "../../../proto/recipes/demo.ts";
import type { RgbImage } from "../../../worker/data/augment/rgb-image.ts";
import { openBatches } from "../../../worker/data/batch-reader.ts";
import { openDataset } from "../../../worker/data/dataset.ts";
import { startLoaders } from "../../../worker/data/loaders.ts";
import { readSamples, type SampleOptions } from "../../../worker/look/sample-pictures.ts";
import { trainPlan, validationPlan } from "../../../worker/session/load-plans.ts";
import { type SampleFolder, sampleFolder, samplePicture } from "../data/sample-data.ts";

/** The last one is a photograph. */
const IMAGES = 7;
const ALONE = { rank: 0, worldSize: 1, startStep: 0 };

describe("pictures of a data set", function () {
  this.timeout(20_000);
  let folder: SampleFolder;
  let recipe: Recipe;
  before(async () => {
    folder = sampleFolder();
    for (let i = 0; i < IMAGES - 1; i++) {
      folder.write(`images/${i % 2 === 0 ? "even" : "odd"}/${i}.ppm`, samplePicture(i));
    }
    // Large enough to be decoded at a fraction of its size, were there too many to keep.
    const noise = { type: "gaussian", mean: 128, sigma: 60 } as const;
    const large = { width: 400, height: 400, channels: 3, background: "#888", noise } as const;
    folder.write("images/odd/large.jpg", await sharp({ create: large }).jpeg().toBuffer());
    const data = { ...demo.data, root: folder.path, imageSize: 8 };
    const [train, val] = [{ path: "images" }, { path: "images" }];
    const model = { ...demo.model, stem: "cifar" } as const;
    recipe = parseRecipe({ ...demo, seed: 5, model, data: { ...data, train, val } });
  });
  after(() => folder.remove());

  const read = async (split: "train" | "val", options: SampleOptions) => {
    const plan =
      split === "val" ? validationPlan(recipe, ALONE) : trainPlan(recipe, "pretrain", ALONE);
    return readSamples(await openDataset(recipe.data, split), plan, options);
  };

  it("are the images and the very views that training gets, in its order", async () => {
    const epoch = 2;
    const dataset = await openDataset(recipe.data, "train");
    const plan = trainPlan(recipe, "pretrain", { ...ALONE, startStep: epoch });
    const onSkipped = () => assert.fail();
    const loaders = await startLoaders({ dataset, plan, threads: 1, onSkipped });
    const batch = openBatches(loaders.shared).next();
    const trained = batch && { pixels: batch.pixels.slice(), labels: [...batch.labels] };
    await loaders.close();

    const samples = await readSamples(dataset, plan, { mode: "views", epoch, count: 99 });
    const views = samples.flatMap(({ pictures }) => pictures.slice(1));
    const planes = Buffer.concat(views.map(({ image }) => toPlanes(image)));
    assert.equal(Buffer.compare(planes, Buffer.from(trained?.pixels ?? [])), 0);
    assert.deepEqual(
      samples.map(({ label }) => label),
      trained?.labels.map((label) => dataset.classes[label]),
    );
    assert.deepEqual(
      samples[0]?.pictures.map(({ caption }) => caption),
      ["12 x 10", "view 1", "view 2"],
    );
  });

  it("lead to the first view step by step", async () => {
    const options = { epoch: 0, count: IMAGES } as const;
    const views = await read("train", { ...options, mode: "views" });
    const steps = await read("train", { ...options, mode: "pipeline" });
    for (const [i, { pictures }] of steps.entries()) {
      assert.deepEqual(
        pictures.slice(1).map(({ caption }) => caption.replace("no ", "")),
        ["crop", "flip", "jitter", "grayscale", "blur"],
      );
      assert.deepEqual(pictures.at(-1)?.image, views[i]?.pictures[1]?.image);
    }
    const captions = steps.flatMap(({ pictures }) => pictures.map(({ caption }) => caption));
    assert.ok(captions.includes("flip") && captions.includes("no flip"));
  });

  it("show what accuracy is measured on, spread over the validation split", async () => {
    const samples = await read("val", { mode: "views", epoch: 0, count: 2 });
    assert.deepEqual(
      samples.map(({ name, label, pictures }) => [name, label, pictures.length]),
      [
        ["0.ppm", "even", 2],
        ["1.ppm", "odd", 2],
      ],
    );
    assert.equal(samples[0]?.pictures[1]?.image.width, 8);
  });

  it("say which image cannot be read, and why", async () => {
    folder.write("images/odd/broken.ppm", "P6 nonsense");
    const samples = await read("train", { mode: "original", epoch: 0, count: 99 });
    assert.equal(samples.length, IMAGES + 1);
    const [broken] = samples.filter(({ problem }) => problem !== undefined);
    assert.equal(broken?.name, "broken.ppm");
    assert.deepEqual(broken.pictures, []);
  });
});

/** Interleaved channels to one plane per channel. */
function toPlanes({ data }: RgbImage): Buffer {
  const plane = data.length / 3;
  return Buffer.from(data.map((_, i) => data[(i % plane) * 3 + Math.floor(i / plane)]!));
}
