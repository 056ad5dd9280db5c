import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { describeModel } from "../../../proto/model/describe-model.ts";
import { planLinear, planPretrain } from "../../../proto/model/model-plan.ts";
import type { ModelRecipe } from "../../../proto/recipe.ts";

const resnet50: ModelRecipe = {
  depth: 50,
  width: 1,
  stem: "imagenet",
  zeroInitResidual: true,
  normEps: 1e-5,
  normMomentum: 0.1,
  neck: { out: 128 },
};
const imagenet = { imageSize: 224, classes: 1000 };

describe("model plan", () => {
  it("has the names, shapes and order of PyTorch's state_dict for ResNet-50", () => {
    const file = path.join(process.cwd(), "test/fixtures/golden/resnet50-state-dict.txt");
    const expected = readFileSync(file, "utf8")
      .trim()
      .split("\n")
      .filter((line) => !line.includes("num_batches_tracked"));
    const actual = planPretrain(resnet50).tensors.map(
      ({ name, shape }) => `${name} (${shape.join(", ")}${shape.length === 1 ? "," : ""})`,
    );
    assert.equal(actual.length, 330 - 55);
    assert.deepEqual(actual, expected);
  });

  it("counts parameters and FLOPs of the pre-training model as mmpretrain does", () => {
    const described = describeModel(resnet50, "pretrain", imagenet);
    const { parameters, flops, trained, activations } = described;
    assert.equal(activations, 11_113_984);
    assert.equal(parameters, 27_968_832);
    assert.equal(flops, 4_109_364_224);
    assert.equal(trained.length, 165);
  });

  it("counts parameters and FLOPs of the linear model as mmpretrain does", () => {
    const { parameters, flops, trained } = describeModel(resnet50, "linear", imagenet);
    assert.equal(parameters, 25_557_032);
    assert.equal(flops, 4_109_464_576);
    assert.deepEqual(
      trained.map(({ name }) => name),
      ["head.fc.weight", "head.fc.bias"],
    );
  });

  for (const [depth, stem, parameters] of [
    [18, "imagenet", 11_176_512],
    [34, "imagenet", 21_284_672],
    [101, "imagenet", 42_500_160],
    [18, "cifar", 11_168_832],
    [50, "cifar", 23_500_352],
  ] as const) {
    it(`gives the backbone of ResNet-${depth} with the ${stem} stem its known size`, () => {
      const model = { ...resnet50, depth, stem };
      const head = depth > 34 ? 2048 + 1 : 512 + 1;
      const linear = describeModel(model, "linear", { imageSize: 224, classes: 1 });
      assert.equal(linear.parameters - head, parameters);
    });
  }

  it("scales channels by fractions, and keeps at least one", () => {
    const quarter = planPretrain({ ...resnet50, width: 0.25 });
    assert.equal(quarter.backbone.stem.outputs, 16);
    assert.equal(quarter.backbone.features, 512);
    assert.deepEqual(
      quarter.tensors.find(({ name }) => name === "neck.fc0.weight")?.shape,
      [512, 512],
    );
    assert.equal(planPretrain({ ...resnet50, width: 0.001 }).backbone.features, 4);
    assert.equal(planPretrain({ ...resnet50, depth: 18, width: 2 }).backbone.features, 1024);
  });

  it("shortcuts layer 1 with a convolution only where the width of a block changes", () => {
    const hasShortcut = (depth: 18 | 50): boolean =>
      planLinear({ ...resnet50, depth }, 10).backbone.blocks[0]?.downsample !== undefined;
    assert.equal(hasShortcut(18), false);
    assert.equal(hasShortcut(50), true);
  });

  it("takes the width of the neck's hidden layer from the recipe", () => {
    const { tensors } = planPretrain({ ...resnet50, neck: { hidden: 64, out: 32 } });
    const shapeOf = (name: string) => tensors.find((tensor) => tensor.name === name)?.shape;
    assert.deepEqual(shapeOf("neck.fc0.weight"), [64, 2048]);
    assert.deepEqual(shapeOf("neck.fc1.weight"), [32, 64]);
  });
});
