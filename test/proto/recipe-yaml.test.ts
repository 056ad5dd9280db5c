import assert from "node:assert/strict";
import { parseRecipe, type Recipe } from "../../proto/recipe.ts";
import { parseRecipeYaml } from "../../proto/recipe-yaml.ts";
import { findRecipe } from "../../proto/recipes/registry.ts";

function read(text: string): Recipe {
  const { input, locate } = parseRecipeYaml(text, "mine.yaml");
  return parseRecipe(input, locate);
}

describe("recipe file", () => {
  it("inherits whatever it does not say from its base", () => {
    const recipe = read("base: demo\nname: mine\npretrain:\n  epochs: 3\n  optimizer: {lr: 0.5}\n");
    const demo = parseRecipe(findRecipe("demo"));
    assert.deepEqual(recipe, {
      ...demo,
      name: "mine",
      pretrain: {
        ...demo.pretrain,
        epochs: 3,
        optimizer: { ...demo.pretrain.optimizer, lr: 0.5 },
      },
    });
  });

  it("replaces lists of the base, and does not merge them", () => {
    const recipe = read("base: demo\ndata: {mean: [1, 2, 3]}\n");
    assert.deepEqual(recipe.data.mean, [1, 2, 3]);
  });

  it("replaces the base's optimizer when it names another type", () => {
    const base = "base: simclr_resnet50_8xb32-coslr-200e_in1k";
    const { optimizer } = read(`${base}\npretrain:\n  optimizer: {type: sgd, lr: 0.1}\n`).pretrain;
    assert.deepEqual(optimizer, {
      type: "sgd",
      lr: 0.1,
      momentum: 0.9,
      weightDecay: 0,
      nesterov: false,
      excludeNormAndBias: false,
    });
  });

  describe("is refused, with the line, when", () => {
    const refuses = (text: string, message: RegExp): void => {
      assert.throws(() => read(text), { code: "RECIPE_INVALID", message });
    };

    it("a value is wrong", () =>
      refuses("base: demo\npretrain:\n  epochs: many\n", /pretrain\.epochs \(line 3\): /));
    it("a key is unknown", () =>
      refuses("base: demo\nmodel:\n  deep: 50\n", /model\.deep \(line 3\): unknown key/));
    it("a key stands there twice", () =>
      refuses("base: demo\nseed: 1\nseed: 2\n", /mine\.yaml, line 3: .*unique/));
    it("it is no YAML", () => refuses("base: demo\nmodel: {depth: 50\n", /mine\.yaml, line \d+: /));
    it("it is no map", () => refuses("- 1\n- 2\n", /mine\.yaml must be a YAML map/));
    it("it is empty", () => refuses("", /mine\.yaml must be a YAML map/));
    it("its base is no name", () => refuses("base: [demo]\n", /base must be the name/));
  });

  it("is refused when its aliases explode", () => {
    const rows = ["a: &a [x, x, x, x, x, x, x, x, x, x]"];
    for (const [from, to] of ["ab", "bc", "cd", "de", "ef"]) {
      rows.push(`${to}: &${to} [${Array(10).fill(`*${from}`).join(", ")}]`);
    }
    assert.throws(() => read(`${rows.join("\n")}\n`), {
      code: "RECIPE_INVALID",
      message: /mine\.yaml: .*alias/i,
    });
  });

  it("with an unknown base is answered with the nearest name", () => {
    assert.throws(() => read("base: demo2\n"), { code: "NOT_FOUND", message: /did you mean demo/ });
  });
});
