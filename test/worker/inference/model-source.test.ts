/** Which model is meant by a name, a recipe's file or weights. */

import assert from "node:assert/strict";
import path from "node:path";
import { saveCheckpoint } from "../../../worker/checkpoint/checkpoint-store.ts";
import { IMAGENET_CLASSES, nameOutputs } from "../../../worker/inference/imagenet-classes.ts";
import { readModelSource } from "../../../worker/inference/model-source.ts";
import { initialState } from "../../../worker/model/initial-state.ts";
import { sampleFolder } from "../data/sample-data.ts";
import { tinyRecipe } from "../model/tiny-model.ts";
import { TINY_CLASSES, tinyState, writeTiny } from "./tiny-weights.ts";

const LINEAR = "resnet50_simclr-200e-pre_8xb512-linear-coslr-90e_in1k";

describe("model source", function () {
  this.timeout(20_000);
  const folder = sampleFolder();
  const linear = tinyState("linear");
  after(() => folder.remove());

  it("has the weights that training starts from when only a name is given", async () => {
    const { model, input, tensors, outputs, hasNeck } = await readModelSource("demo-linear", {});
    const { data } = tensors.get("backbone.conv1.weight")!;
    assert.deepEqual(
      data,
      initialState(model, "linear", 0, 8).tensors.get("backbone.conv1.weight")?.data,
    );
    assert.deepEqual([outputs, hasNeck, input.imageSize], [8, false, 48]);
    const simclr = await readModelSource("demo", {});
    assert.deepEqual([simclr.outputs, simclr.hasNeck], [undefined, true]);
  });

  it("finds the model out from weights alone", async () => {
    const file = writeTiny(folder, "alone.safetensors", linear);
    const { model, input, isInputAssumed, outputs, classes } = await readModelSource(file, {});
    assert.ok(isInputAssumed);
    assert.deepEqual([model.depth, model.stem, model.width], [18, "cifar", 1 / 32]);
    assert.deepEqual([input.imageSize, outputs, classes], [32, TINY_CLASSES, undefined]);

    const told = await readModelSource(file, { input: { ...input, imageSize: 24 } });
    assert.deepEqual([told.isInputAssumed, told.input.imageSize], [false, 24]);
  });

  it("takes input, eps and classes from the manifest of a checkpoint", async () => {
    const model = { ...tinyRecipe, normEps: 1e-3 };
    const input = {
      imageSize: 20,
      resizeEdge: 24,
      mean: [1, 2, 3] as [number, number, number],
      std: [4, 5, 6] as [number, number, number],
    };
    const { folder: place } = saveCheckpoint(
      path.join(folder.path, "checkpoints"),
      {
        model: linear.tensors,
        optimizer: new Map(),
        manifest: {
          format: "simclr-fleet/checkpoint/1",
          experimentId: "e",
          recipe: "mine",
          stage: "linear",
          step: 1,
          epoch: 1,
          seed: 0,
          worldSize: 1,
          generation: 1,
          batchesTracked: 1,
          scalars: {},
          classes: ["n02123045", "n01440764", "n15075141"],
          model,
          input,
          createdAt: new Date(0).toISOString(),
        },
      },
      1,
    );
    const source = await readModelSource(place, {});
    assert.deepEqual([source.model, source.input], [model, input]);
    assert.equal(source.isInputAssumed, false);
    assert.deepEqual(source.classes, [
      "tabby, tabby cat",
      "tench, Tinca tinca",
      "toilet tissue, toilet paper, bathroom tissue",
    ]);
  });

  it("takes a recipe from a file", async () => {
    folder.write(
      "mine.yaml",
      "base: demo\nname: mine\nstages: [linear]\nlinear: { init: random, classes: 5 }\n",
    );
    const { outputs, input } = await readModelSource(path.join(folder.path, "mine.yaml"), {});
    assert.deepEqual([outputs, input.resizeEdge], [5, 48]);
  });

  it("says where published weights are, and downloads nothing", async () => {
    await assert.rejects(readModelSource(LINEAR, { pretrained: true }), {
      code: "NOT_FOUND",
      message: /published at https:\/\/\S+-f12c0457\.pth; download that file and pass its path/,
    });
    await assert.rejects(readModelSource("demo", { pretrained: true }), {
      code: "NOT_FOUND",
      message: /not published; pass the path of a checkpoint/,
    });
  });

  it("refuses weights of another backbone, and those that are not whole", async () => {
    const file = writeTiny(folder, "other.safetensors", linear);
    await assert.rejects(readModelSource(LINEAR, { pretrained: file }), {
      code: "CHECKPOINT_INVALID",
      message: /other\.safetensors: its backbone does not fit/,
    });
    const headless = writeTiny(folder, "headless.safetensors", tinyState("pretrain"));
    await assert.rejects(readModelSource("demo-linear", { pretrained: headless }), {
      code: "CHECKPOINT_INVALID",
      message: /headless\.safetensors: has no classifier, which demo-linear has/,
    });
    const tensors = new Map(linear.tensors);
    tensors.delete("head.fc.bias");
    const cut = writeTiny(folder, "cut.safetensors", { ...linear, tensors });
    await assert.rejects(readModelSource(cut, {}), {
      code: "CHECKPOINT_INVALID",
      message: /cut\.safetensors: .*head\.fc\.bias/,
    });
  });

  it("refuses weights for weights", async () => {
    const file = writeTiny(folder, "twice.safetensors", linear);
    await assert.rejects(readModelSource(file, { pretrained: file }), {
      code: "USAGE",
      message: /has weights already/,
    });
  });

  it("refuses what is neither a name nor a file, with the nearest name", async () => {
    await assert.rejects(readModelSource("resnet50_simclr-200e", {}), {
      code: "NOT_FOUND",
      message: new RegExp(`is neither .*; did you mean ${LINEAR}\\?$`),
    });
    await assert.rejects(readModelSource("demo-liner", {}), /did you mean demo-linear\?/);
  });
});

describe("names of outputs", () => {
  it("are ImageNet's in mmpretrain's order", () => {
    assert.equal(IMAGENET_CLASSES.length, 1000);
    assert.equal(IMAGENET_CLASSES[0], "tench, Tinca tinca");
    assert.equal(IMAGENET_CLASSES[281], "tabby, tabby cat");
    assert.equal(IMAGENET_CLASSES[999], "toilet tissue, toilet paper, bathroom tissue");
  });

  it("are the user's, else the weights', else ImageNet's for 1000 outputs", () => {
    assert.deepEqual(nameOutputs(2, ["a", "b"], ["c", "d"]), ["a", "b"]);
    assert.deepEqual(nameOutputs(2, undefined, ["c", "d"]), ["c", "d"]);
    assert.equal(nameOutputs(1000, undefined, undefined), IMAGENET_CLASSES);
    assert.equal(nameOutputs(999, undefined, undefined), undefined);
    assert.equal(nameOutputs(undefined, ["a"], undefined), undefined);
  });

  it("are unknown where labels were only numbered", () => {
    assert.equal(nameOutputs(2, undefined, ["0", "1"]), undefined);
  });

  it("must be as many as the outputs", () => {
    assert.throws(() => nameOutputs(3, ["a", "b"], undefined), {
      code: "USAGE",
      message: /2 class names for 3 outputs/,
    });
  });
});
