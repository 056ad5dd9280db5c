/** The built-in recipes, value by value against the published configurations. */

import assert from "node:assert/strict";
import { parseRecipe, type Recipe } from "../../proto/recipe.ts";
import { formatRecipeYaml, parseRecipeYaml } from "../../proto/recipe-yaml.ts";
import { findRecipe, RECIPES } from "../../proto/recipes/registry.ts";

const recipe = (name: string): Recipe => parseRecipe(findRecipe(name));

const IMAGENET_NORM = { mean: [123.675, 116.28, 103.53], std: [58.395, 57.12, 57.375] };

/** What the three ImageNet recipes have in common, in full. */
const IMAGENET_COMMON = {
  seed: 0,
  stages: ["pretrain", "linear"],
  model: {
    depth: 50,
    width: 1,
    stem: "imagenet",
    zeroInitResidual: true,
    normEps: 1e-5,
    normMomentum: 0.1,
    neck: { hidden: 2048, out: 128 },
  },
  data: {
    root: "data/imagenet",
    train: { path: "train", annotations: "meta/train.txt" },
    val: { path: "val", annotations: "meta/val.txt" },
    imageSize: 224,
    ...IMAGENET_NORM,
    scaledDecoding: true,
    skipLimit: 100,
  },
  linear: {
    name: "resnet50_8xb512-linear-coslr-90e_in1k",
    workers: 8,
    batchPerWorker: 512,
    epochs: 90,
    classes: 1000,
    init: "pretrain",
    optimizer: {
      type: "lars",
      lr: 1.6,
      momentum: 0.9,
      weightDecay: 0,
      trustCoefficient: 0.001,
      eps: 1e-8,
      nesterov: false,
      excludeNormAndBias: false,
    },
    schedule: {
      warmupEpochs: 0,
      warmupStartFactor: 1e-4,
      decay: "cosine",
      decayPer: "epoch",
      minLr: 0,
    },
    crop: { scale: [0.08, 1], ratio: [3 / 4, 4 / 3] },
    flip: 0.5,
    validation: { resizeEdge: 256, batchPerWorker: 32, everyEpochs: 1 },
    checkpoint: { everyEpochs: 10, keep: 3 },
    dropLast: false,
  },
  elastic: { waitSeconds: 30, maxRestarts: 3, checksumEverySteps: 100, stragglerFactor: 2 },
  collective: { wire: "f32", bucketBytes: 25 * 2 ** 20 },
};

const IMAGENET_PRETRAIN = {
  syncBatchNorm: true,
  temperature: 0.1,
  gradientScale: "mmpretrain",
  schedule: {
    warmupEpochs: 10,
    warmupStartFactor: 1e-4,
    decay: "cosine",
    decayPer: "epoch",
    minLr: 0,
  },
  augmentation: {
    crop: { scale: [0.08, 1], ratio: [3 / 4, 4 / 3] },
    flip: 0.5,
    jitter: { probability: 0.8, brightness: 0.8, contrast: 0.8, saturation: 0.8, hue: 0.2 },
    grayscale: 0.2,
    blur: { probability: 0.5, sigma: [0.1, 2] },
  },
  checkpoint: { everyEpochs: 10, keep: 3 },
  dropLast: false,
  monitor: {
    everyEpochs: 10,
    valImages: 5000,
    knn: { enabled: true, neighbours: [20, 200], temperature: 0.07, trainImages: 20_000 },
    probe: { enabled: true, lr: 0.3, momentum: 0.9 },
  },
};

describe("built-in recipe", () => {
  const published = [
    ["simclr_resnet50_16xb256-coslr-200e_in1k", 16, 256, 200, 4.8],
    ["simclr_resnet50_16xb256-coslr-800e_in1k", 16, 256, 800, 4.8],
    ["simclr_resnet50_8xb32-coslr-200e_in1k", 8, 32, 200, 0.3],
  ] as const;

  for (const [name, workers, batchPerWorker, epochs, lr] of published) {
    it(`${name} has every value of the published configuration`, () => {
      const { name: itsName, description, pretrain, ...common } = recipe(name);
      assert.equal(itsName, name);
      assert.notEqual(description, "");
      assert.deepEqual(common, IMAGENET_COMMON);
      assert.deepEqual(pretrain, {
        ...IMAGENET_PRETRAIN,
        workers,
        batchPerWorker,
        epochs,
        optimizer: {
          type: "lars",
          lr,
          momentum: 0.9,
          weightDecay: 1e-6,
          trustCoefficient: 0.001,
          eps: 1e-8,
          nesterov: false,
          excludeNormAndBias: true,
        },
      });
    });
  }

  it("simclr_resnet18_2xb128-coslr-100e_cifar10 follows the paper's appendix on CIFAR-10", () => {
    const { model, data, pretrain, linear } = recipe("simclr_resnet18_2xb128-coslr-100e_cifar10");
    assert.deepEqual([model.depth, model.stem, model.width], [18, "cifar", 1]);
    assert.deepEqual([data.root, data.imageSize], ["data/cifar10", 32]);
    assert.deepEqual([data.train.path, data.val.path], ["train.tar", "test.tar"]);
    assert.deepEqual(
      [pretrain.workers, pretrain.batchPerWorker, pretrain.epochs, pretrain.temperature],
      [2, 128, 100, 0.5],
    );
    const { brightness, contrast, saturation, hue } = pretrain.augmentation.jitter;
    assert.deepEqual([brightness, contrast, saturation, hue], [0.4, 0.4, 0.4, 0.1]);
    assert.equal(pretrain.augmentation.blur.probability, 0);
    assert.deepEqual(
      [pretrain.optimizer.type, pretrain.optimizer.lr, pretrain.optimizer.weightDecay],
      ["lars", 1, 1e-4],
    );
    assert.deepEqual([pretrain.schedule.warmupEpochs, pretrain.schedule.decay], [10, "cosine"]);
    assert.deepEqual(
      [linear.workers, linear.batchPerWorker, linear.epochs, linear.classes],
      [2, 256, 100, 10],
    );
    const { type, lr, momentum, weightDecay } = linear.optimizer;
    assert.deepEqual([type, lr, momentum, weightDecay], ["sgd", 0.2, 0.9, 0]);
    assert.equal(linear.validation.resizeEdge, 32);
  });

  it("demo fits two workers without a GPU", () => {
    const { model, data, pretrain, linear } = recipe("demo");
    assert.deepEqual([pretrain.workers, linear.workers], [2, 2]);
    assert.ok(model.width < 1 && data.imageSize <= 64);
  });

  for (const { name } of RECIPES) {
    it(`${name} comes back from its YAML`, () => {
      const resolved = recipe(name);
      const { input } = parseRecipeYaml(formatRecipeYaml(resolved), "printed.yaml");
      assert.deepEqual(parseRecipe(input), resolved);
    });
  }

  it("that is not there is answered with the nearest name", () => {
    assert.throws(() => findRecipe("dmeo"), { code: "NOT_FOUND", message: /did you mean demo\?/ });
    assert.throws(() => findRecipe("vit"), { message: /there are simclr_resnet50_16xb256/ });
  });
});
