import assert from "node:assert/strict";
import { FleetError } from "../../proto/errors.ts";
import { parseRecipe, RECIPE_KEYS } from "../../proto/recipe.ts";
import { editDistance, nearestKey } from "../../proto/recipe-keys.ts";
import { applyOverrides } from "../../proto/recipe-overrides.ts";
import { findRecipe } from "../../proto/recipes/registry.ts";

const base = findRecipe("demo");

/** Fails unless `demo` with these settings is refused with a message that matches. */
function refuses(settings: readonly string[], message: RegExp): void {
  assert.throws(
    () => parseRecipe(applyOverrides(base, settings)),
    (error) => {
      assert.ok(error instanceof FleetError);
      assert.equal(error.code, "RECIPE_INVALID");
      assert.match(error.message, message);
      return true;
    },
  );
}

describe("recipe", () => {
  describe("is refused, with the path of the key, when", () => {
    it("a value has the wrong type", () =>
      refuses(["pretrain.optimizer.lr=fast"], /pretrain\.optimizer\.lr: .*expected number/));
    it("a value is out of range", () =>
      refuses(["pretrain.optimizer.momentum=1.5"], /pretrain\.optimizer\.momentum: /));
    it("the depth is not one of ResNet's", () =>
      refuses(["model.depth=20"], /model\.depth: .*18\|34\|50\|101/));
    it("an optimizer is unknown", () =>
      refuses(["pretrain.optimizer={type: adam, lr: 1}"], /pretrain\.optimizer\.type: /));
    it("warm-up is as long as training", () =>
      refuses(
        ["pretrain.epochs=10", "pretrain.schedule.warmupEpochs=10"],
        /warmupEpochs: must be less than epochs/,
      ));
    it("a crop's range is upside down", () =>
      refuses(["linear.crop.scale=[1, 0.1]"], /linear\.crop\.scale: must be \[low, high\]/));
    it("the centre crop is larger than the image", () =>
      refuses(
        ["data.imageSize=64", "linear.validation.resizeEdge=63"],
        /linear\.validation\.resizeEdge: must not be less/,
      ));
    it("linear evaluation has no backbone to start from", () =>
      refuses(["stages=[linear]"], /linear\.init: cannot be "pretrain"/));
    it("linear evaluation comes first", () =>
      refuses(["stages=[linear, pretrain]"], /stages: must have pretrain before linear/));
    it("a single image has no negatives", () =>
      refuses(
        ["pretrain.workers=1", "pretrain.batchPerWorker=1"],
        /batchPerWorker: needs a global/,
      ));
  });

  it("reports every problem at once", () => {
    const settings = ["seed=-1", "model.width=0", "linear.classes=many"];
    refuses(settings, /seed: .*model\.width: .*linear\.classes: /);
  });

  it("names the nearest key for an unknown one", () => {
    assert.throws(
      () => parseRecipe({ ...base, pretrian: {} }),
      /pretrian: unknown key \(nearest: pretrain\)/,
    );
  });

  it("says where a key stands when the caller knows", () => {
    const locate = (path: readonly PropertyKey[]) => (path[0] === "seed" ? "line 3" : undefined);
    assert.throws(() => parseRecipe({ ...base, seed: "x" }, locate), /seed \(line 3\): /);
  });

  it("survives JSON unchanged", () => {
    const recipe = parseRecipe(base);
    assert.deepEqual(parseRecipe(JSON.parse(JSON.stringify(recipe))), recipe);
  });
});

describe("override", () => {
  const override = (...settings: string[]) => parseRecipe(applyOverrides(base, settings));

  it("replaces one value and leaves the others alone", () => {
    const { pretrain } = override("pretrain.optimizer.lr=2.4");
    assert.deepEqual(pretrain, {
      ...parseRecipe(base).pretrain,
      optimizer: { ...parseRecipe(base).pretrain.optimizer, lr: 2.4 },
    });
  });

  it("reads YAML: numbers with exponents, booleans, lists and maps", () => {
    const recipe = override(
      "pretrain.optimizer.weightDecay=1e-6",
      "pretrain.syncBatchNorm=false",
      "pretrain.augmentation.crop.scale=[0.2, 1]",
      "linear.optimizer={type: lars, lr: 1.6}",
    );
    assert.equal(recipe.pretrain.optimizer.weightDecay, 1e-6);
    assert.equal(recipe.pretrain.syncBatchNorm, false);
    assert.deepEqual(recipe.pretrain.augmentation.crop.scale, [0.2, 1]);
    assert.equal(recipe.linear.optimizer.type, "lars");
  });

  it("reaches into sections that the recipe leaves to their defaults", () => {
    assert.equal(override("collective.wire=bf16").collective.wire, "bf16");
  });

  it("keeps what comes after the first equals sign", () => {
    assert.equal(override("description=a=b").description, "a=b");
  });

  it("does not touch the recipe that it starts from", () => {
    const before = structuredClone(base);
    override("seed=7");
    assert.deepEqual(base, before);
  });

  it("takes the last of two settings", () => {
    assert.equal(override("seed=1", "seed=2").seed, 2);
  });

  it("refuses an unknown path and names the nearest", () => {
    refuses(
      ["pretrain.optimiser.lr=1"],
      /--set pretrain\.optimiser\.lr: .*pretrain\.optimizer\.lr/,
    );
    refuses(["temperature=1"], /--set temperature: .*pretrain\.temperature/);
    refuses(["__proto__.polluted=1"], /--set __proto__\.polluted: unknown key$/);
  });

  it("refuses what is no setting, or no YAML", () => {
    refuses(["seed"], /must be path\.to\.key=VALUE/);
    refuses(["=1"], /must be path\.to\.key=VALUE/);
    refuses(["seed=[1"], /--set seed: /);
  });
});

describe("keys", () => {
  it("are known down to the leaves of every optimizer", () => {
    for (const key of [
      "pretrain.optimizer.trustCoefficient",
      "model.neck.hidden",
      "data.val.limit",
    ]) {
      assert.ok(RECIPE_KEYS.includes(key), key);
    }
  });

  it("have the nearest by edits, unless it is too far off", () => {
    assert.equal(nearestKey("sede", ["seed", "name"]), "seed");
    assert.equal(nearestKey("xyz", ["seed", "name"]), undefined);
  });

  it("are compared by insertions, deletions and replacements", () => {
    assert.equal(editDistance("kitten", "sitting"), 3);
    assert.equal(editDistance("", "abc"), 3);
    assert.equal(editDistance("same", "same"), 0);
  });
});
