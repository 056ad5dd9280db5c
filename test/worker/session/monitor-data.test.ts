import assert from "node:assert/strict";
import { parseRecipe, type RecipeInput } from "../../../proto/recipe.ts";
import { openDataset } from "../../../worker/data/dataset.ts";
import type { SplitName } from "../../../worker/data/invalid-data.ts";
import { findMonitorData } from "../../../worker/session/monitor-data.ts";
import { tinyRecipe } from "../../support/cluster.ts";
import { type SampleFolder, sampleFolder, samplePicture } from "../data/sample-data.ts";

describe("what a pre-training is judged on", () => {
  let folder: SampleFolder;
  beforeEach(() => {
    folder = sampleFolder();
  });
  afterEach(() => folder.remove());

  const write = (...names: string[]): void => {
    for (const name of names) folder.write(`${name}.ppm`, samplePicture(1));
  };
  const find = async (monitor: RecipeInput["pretrain"]["monitor"] = {}) => {
    const { pretrain, ...rest } = tinyRecipe(folder.path, {});
    const recipe = parseRecipe({ ...rest, pretrain: { ...pretrain, monitor } });
    const openSplit = (split: SplitName) => openDataset(recipe.data, split);
    return findMonitorData(recipe, await openSplit("train"), openSplit);
  };
  const because = async (reason: RegExp, monitor?: RecipeInput["pretrain"]["monitor"]) => {
    const found = await find(monitor);
    assert.ok(found.type === "none");
    assert.match(found.because, reason);
  };

  it("is a validation split with the classes of the training", async () => {
    write("train/a/1", "train/b/1", "val/a/2", "val/b/2", "val/b/3");
    const found = await find();
    assert.ok(found.type === "usable");
    assert.deepEqual([found.classes, found.val.count], [2, 3]);
  });

  it("is nothing without labels", async () => {
    write("train/1", "train/2", "val/a/2", "val/b/2");
    await because(/train has no labels of different classes/);
  });

  it("is nothing where all images are of one class", async () => {
    write("train/all/1", "train/all/2", "val/all/2");
    await because(/no labels of different classes/);
  });

  it("is nothing without a validation split", async () => {
    write("train/a/1", "train/b/1");
    await because(/val does not exist/);
  });

  it("is nothing when the validation split has other classes", async () => {
    write("train/a/1", "train/b/1", "val/a/2", "val/c/2");
    await because(/the class folders of .*val are not those of .*train/);
  });

  it("is nothing when the recipe wants neither of the two", async () => {
    write("train/a/1", "train/b/1", "val/a/2", "val/b/2");
    await because(/switched off/, { knn: { enabled: false }, probe: { enabled: false } });
  });
});
