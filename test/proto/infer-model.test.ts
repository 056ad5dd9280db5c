import assert from "node:assert/strict";
import fc from "fast-check";
import { planBackbone } from "../../proto/model/backbone-plan.ts";
import {
  describeArchitecture,
  inferModel,
  modelTensors,
  type NamedShapes,
} from "../../proto/model/infer-model.ts";
import { type ModelRecipe, parseRecipe } from "../../proto/recipe.ts";
import { findRecipe } from "../../proto/recipes/registry.ts";

const builtIn = parseRecipe(findRecipe("simclr_resnet50_8xb32-coslr-200e_in1k"));
const plain: ModelRecipe = { ...builtIn.model, neck: { out: 128 } };

function shapesOf(model: ModelRecipe, hasNeck = false, classes?: number): NamedShapes {
  return new Map(modelTensors({ model, hasNeck, classes }).map((spec) => [spec.name, spec]));
}

function withShape(shapes: NamedShapes, name: string, shape: readonly number[]): NamedShapes {
  return new Map([...shapes, [name, { shape }]]);
}

describe("inferModel", () => {
  for (const model of [
    plain,
    { ...plain, depth: 18 as const, stem: "cifar" as const },
    { ...plain, depth: 34 as const, width: 0.25 },
    { ...plain, depth: 101 as const, width: 2 },
    { ...plain, depth: 18 as const, width: 0.0625 },
    { ...plain, width: 0.3 },
  ]) {
    it(`finds ${describeArchitecture(model)}`, () => {
      assert.deepEqual(inferModel(shapesOf(model)), { model, hasNeck: false, classes: undefined });
    });
  }

  it("finds the sizes of neck and classifier", () => {
    const model = { ...plain, neck: { hidden: 512, out: 64 } };
    assert.deepEqual(inferModel(shapesOf(model, true, 12)), { model, hasNeck: true, classes: 12 });
  });

  it("leaves a neck as wide as the backbone to the default", () => {
    assert.deepEqual(inferModel(shapesOf(plain, true)).model, plain);
  });

  it("finds some width that has the same layers, whatever the width was", () => {
    fc.assert(
      fc.property(fc.double({ min: 0.004, max: 8, noNaN: true }), (width) => {
        const model = { ...plain, depth: 18 as const, width };
        const found = inferModel(shapesOf(model)).model;
        assert.deepEqual(planBackbone(found), planBackbone(model));
      }),
      { numRuns: 200 },
    );
  });

  it("passes over tensors that are no part of a model", () => {
    const shapes = withShape(shapesOf(plain), "ema.backbone.conv1.weight", [1]);
    assert.equal(inferModel(shapes).model.depth, 50);
  });

  const without = (pattern: RegExp): NamedShapes =>
    new Map([...shapesOf(plain)].filter(([name]) => !pattern.test(name)));
  for (const [what, shapes, reason] of [
    ["nothing", new Map(), /no backbone\.conv1\.weight/],
    ["a depth that nobody has", without(/layer3\.5/), /3, 4, 5, 3 bottleneck blocks/],
    [
      "a missing tensor",
      without(/layer4\.2\.bn3\.running_var/),
      /not quite a ResNet-50: .*running_var is missing/,
    ],
    [
      "a stem of another kind",
      withShape(shapesOf(plain), "backbone.conv1.weight", [64, 3, 5, 5]),
      /5x5 kernel/,
    ],
    [
      "a stem of no image",
      withShape(shapesOf(plain), "backbone.conv1.weight", [64, 4, 7, 7]),
      /is \[64, 4, 7, 7\], not \[64, 3, 7, 7\]/,
    ],
    [
      "grouped convolutions",
      withShape(shapesOf(plain), "backbone.layer1.0.conv2.weight", [64, 2, 3, 3]),
      /layer1\.0\.conv2\.weight is/,
    ],
    [
      "layers of different widths",
      withShape(shapesOf(plain), "backbone.layer2.0.conv1.weight", [256, 256, 1, 1]),
      /agree on one width/,
    ],
    [
      "a stem without channels",
      withShape(shapesOf(plain), "backbone.conv1.weight", [0, 3, 7, 7]),
      /is \[0, 3, 7, 7\]/,
    ],
  ] as const) {
    it(`refuses ${what}`, () => {
      assert.throws(() => inferModel(shapes), { code: "CHECKPOINT_INVALID", message: reason });
    });
  }
});
