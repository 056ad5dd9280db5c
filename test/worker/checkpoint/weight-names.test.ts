import assert from "node:assert/strict";
import { canonicalNames, exportName } from "../../../worker/checkpoint/weight-names.ts";

const namesOf = (names: readonly string[]) => {
  const { style, named } = canonicalNames(new Map(names.map((name) => [name, 0])));
  return { style, names: [...named.keys()] };
};

describe("names of weights", () => {
  for (const [what, names, style, expected] of [
    ["mmpretrain's", ["backbone.conv1.weight", "neck.fc0.weight", "head.fc.bias"], "mmpretrain"],
    [
      "torchvision's",
      ["conv1.weight", "bn1.bias", "layer1.0.conv1.weight", "fc.weight", "fc.bias"],
      "torchvision",
      [
        "backbone.conv1.weight",
        "backbone.bn1.bias",
        "backbone.layer1.0.conv1.weight",
        "head.fc.weight",
        "head.fc.bias",
      ],
    ],
    [
      "a bare backbone's",
      ["conv1.weight", "layer4.1.bn2.running_var"],
      "bare",
      ["backbone.conv1.weight", "backbone.layer4.1.bn2.running_var"],
    ],
    ["a parallel model's", ["module.backbone.bn1.bias"], "mmpretrain", ["backbone.bn1.bias"]],
    ["a compiled parallel one's", ["_orig_mod.module.bn1.bias"], "bare", ["backbone.bn1.bias"]],
    [
      "strange ones beside known ones as they are",
      ["backbone.bn1.bias", "data_preprocessor.mean", "fc.weight"],
      "mmpretrain",
    ],
  ] as readonly (readonly [string, readonly string[], string, (readonly string[])?])[]) {
    it(`reads ${what}`, () => {
      assert.deepEqual(namesOf(names), { style, names: expected ?? names });
    });
  }

  it("refuses two names for one tensor", () => {
    assert.throws(() => namesOf(["bn1.bias", "module.bn1.bias"]), {
      code: "CHECKPOINT_INVALID",
      message: /two of its tensors would be backbone\.bn1\.bias/,
    });
  });

  it("refuses a name that would write to a terminal what it likes", () => {
    assert.throws(() => namesOf(["conv1.weight\u001b[2J"]), { code: "CHECKPOINT_INVALID" });
  });

  it("writes each style what it has a place for", () => {
    const names = ["backbone.layer1.0.bn1.bias", "neck.fc0.weight", "head.fc.weight"];
    const exported = (style: "mmpretrain" | "torchvision" | "backbone") =>
      names.map((name) => exportName(name, style));
    assert.deepEqual(exported("mmpretrain"), names);
    assert.deepEqual(exported("torchvision"), ["layer1.0.bn1.bias", undefined, "fc.weight"]);
    assert.deepEqual(exported("backbone"), ["layer1.0.bn1.bias", undefined, undefined]);
  });
});
