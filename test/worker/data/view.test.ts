import assert from "node:assert/strict";
import { type AugmentationRecipe, parseRecipe } from "../../../proto/recipe.ts";
import { Canvas } from "../../../worker/data/augment/canvas.ts";
import { createImage, type RgbImage } from "../../../worker/data/augment/rgb-image.ts";
import {
  drawCrop,
  drawLinearView,
  drawView,
  paintView,
  type ViewPlan,
} from "../../../worker/data/augment/view.ts";
import { RandomStream } from "../../../worker/data/random-stream.ts";

/** Leaves a square image of the right size as it is. */
const NOTHING: AugmentationRecipe = {
  crop: { scale: [1, 1], ratio: [1, 1] },
  flip: 0,
  jitter: { probability: 0, brightness: 0.8, contrast: 0.8, saturation: 0.8, hue: 0.2 },
  grayscale: 0,
  blur: { probability: 0, sigma: [0.1, 2] },
};

describe("random crop", () => {
  it("stays inside the image and keeps to the ranges of area and shape", () => {
    const random = streamOf(1);
    const crop: AugmentationRecipe["crop"] = { scale: [0.08, 1], ratio: [3 / 4, 4 / 3] };
    for (let i = 0; i < 2000; i++) {
      const { x, y, width, height } = drawCrop({ width: 300, height: 200 }, crop, random);
      assert.ok(x >= 0 && y >= 0 && x + width <= 300 && y + height <= 200);
      const area = (width * height) / (300 * 200);
      // Sides are rounded to whole pixels, which moves a small crop by up to 2 %.
      assert.ok(area > 0.08 * 0.98 && area <= 1, `area ${area}`);
      const shape = width / height;
      assert.ok(shape > 0.75 * 0.98 && shape < (4 / 3) * 1.02, `shape ${shape}`);
    }
  });

  it("falls back to the largest centred crop when nothing fits", () => {
    const crop: AugmentationRecipe["crop"] = { scale: [1, 1], ratio: [3 / 4, 4 / 3] };
    const wide = drawCrop({ width: 300, height: 9 }, crop, streamOf(1));
    assert.deepEqual(wide, { x: 144, y: 0, width: 12, height: 9 });
    const tall = drawCrop({ width: 9, height: 300 }, crop, streamOf(1));
    assert.deepEqual(tall, { x: 0, y: 144, width: 9, height: 12 });
  });

  it("covers the area range evenly", () => {
    const random = streamOf(7);
    const crop: AugmentationRecipe["crop"] = { scale: [0.2, 0.6], ratio: [1, 1] };
    let small = 0;
    for (let i = 0; i < 4000; i++) {
      const { width, height } = drawCrop({ width: 1000, height: 1000 }, crop, random);
      if (width * height < 400_000) small++;
    }
    assert.ok(Math.abs(small / 4000 - 0.5) < 0.04, `${small} of 4000 in the lower half`);
  });
});

describe("view", function () {
  this.timeout(20_000);
  it("is the image itself when every operation is switched off", () => {
    const image = sample();
    assert.deepEqual(painted(image, drawView(image, NOTHING, streamOf(1))).data, image.data);
  });

  it("does not touch the image it is made from", () => {
    const image = sample();
    const before = image.data.slice();
    const all = {
      ...NOTHING,
      flip: 1,
      grayscale: 1,
      jitter: { ...NOTHING.jitter, probability: 1 },
    };
    painted(
      image,
      drawView(image, { ...all, blur: { probability: 1, sigma: [1, 2] } }, streamOf(1)),
    );
    assert.deepEqual(image.data, before);
  });

  it("is mirrored about as often as the recipe says", () => {
    const image = sample();
    const recipe = { ...NOTHING, flip: 0.3 };
    let mirrored = 0;
    for (let index = 0; index < 2000; index++) {
      const view = painted(image, drawView(image, recipe, streamOf(index)));
      if (view.data[0] !== image.data[0]) mirrored++;
    }
    assert.ok(Math.abs(mirrored / 2000 - 0.3) < 0.05, `${mirrored} of 2000`);
  });

  it("is grey when the recipe always asks for grey", () => {
    const view = painted(sample(), drawView(sample(), { ...NOTHING, grayscale: 1 }, streamOf(1)));
    for (let i = 0; i < view.data.length; i += 3) {
      assert.equal(view.data[i], view.data[i + 1]);
      assert.equal(view.data[i], view.data[i + 2]);
    }
  });

  it("depends on every part of its key and on nothing else", () => {
    const recipe = parseRecipe(RECIPE).pretrain.augmentation;
    const image = sample();
    const key = { seed: 1, epoch: 2, index: 3, view: 0 };
    const view = (change: Partial<typeof key>): string =>
      painted(image, drawView(image, recipe, new RandomStream({ ...key, ...change }))).data.join();
    assert.equal(view({}), view({}));
    const views = [{}, { seed: 2 }, { epoch: 3 }, { index: 4 }, { view: 1 }].map(view);
    assert.equal(new Set(views).size, views.length);
  });

  it("for the classifier is a crop that may be mirrored", () => {
    const image = sample();
    const recipe = { crop: NOTHING.crop, flip: 1 };
    const view = painted(image, drawLinearView(image, recipe, streamOf(1)));
    assert.deepEqual([...view.data.slice(0, 3)], [...image.data.slice(21, 24)]);
  });
});

describe("random stream", () => {
  it("is uniform", () => {
    const random = streamOf(5);
    const counts = new Array<number>(10).fill(0);
    for (let i = 0; i < 20_000; i++) counts[random.below(10)]!++;
    for (const count of counts) assert.ok(Math.abs(count - 2000) < 200, counts.join(" "));
  });

  it("gives neighbouring images unrelated numbers", () => {
    const draws = Array.from({ length: 2000 }, (_, index) => streamOf(index).next());
    const mean = draws.reduce((sum, draw) => sum + draw) / draws.length;
    assert.ok(Math.abs(mean - 0.5) < 0.03, `mean ${mean}`);
    const steps = draws.slice(1).filter((draw, i) => draw > draws[i]!).length;
    assert.ok(Math.abs(steps / 2000 - 0.5) < 0.05, `${steps} of 2000 rise`);
  });

  it("orders four things in all 24 ways", () => {
    const random = streamOf(3);
    const seen = new Set(Array.from({ length: 1000 }, () => random.permutation(4).join()));
    assert.equal(seen.size, 24);
  });
});

const RECIPE = {
  name: "views",
  model: { depth: 18 },
  data: { root: "data", train: { path: "train" }, val: { path: "val" } },
  pretrain: {
    workers: 1,
    batchPerWorker: 2,
    epochs: 1,
    optimizer: { type: "sgd", lr: 1 },
  },
  linear: {
    name: "linear",
    workers: 1,
    batchPerWorker: 2,
    epochs: 1,
    classes: 2,
    optimizer: { type: "sgd", lr: 1 },
  },
};

/** The plan, carried out in a view of 8 x 8. */
function painted(image: RgbImage, plan: ViewPlan): RgbImage {
  const canvas = new Canvas({ width: 8, height: 8 });
  canvas.load(image);
  paintView(canvas, plan);
  return canvas.toImage();
}

function streamOf(index: number): RandomStream {
  return new RandomStream({ seed: 1, epoch: 0, index, view: 0 });
}

/** 8 x 8, every pixel of another colour. */
function sample(): RgbImage {
  const image = createImage(8, 8);
  for (let i = 0; i < image.data.length; i++) image.data[i] = (i * 37) % 251;
  return image;
}
