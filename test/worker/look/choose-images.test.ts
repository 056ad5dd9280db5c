import assert from "node:assert/strict";
import { openDataset } from "../../../worker/data/dataset.ts";
import { chooseImages } from "../../../worker/look/choose-images.ts";
import { dataRecipe, type SampleFolder, sampleFolder } from "../data/sample-data.ts";

describe("a choice of images", () => {
  let folder: SampleFolder;
  before(() => {
    folder = sampleFolder();
    for (let i = 0; i < 9; i++) folder.write(`val/${"abb"[i % 3]}/${i}.ppm`, "");
    folder.write("val/c/9.ppm", "");
  });
  after(() => folder.remove());

  const choose = async (where: string, parts: Partial<Parameters<typeof chooseImages>[1]>) => {
    const dataset = await openDataset(dataRecipe(folder.path, { path: where }), "val");
    return chooseImages(dataset, { classes: undefined, classesMax: 2, imagesMax: 2, ...parts });
  };

  it("has the first classes, and images spread over each of them", async () => {
    // Images 0 to 2 are of class a, 3 to 8 of b, 9 of c.
    assert.deepEqual(await choose("val", {}), {
      indices: [0, 1, 3, 6],
      labels: [0, 0, 1, 1],
      classes: ["a", "b"],
    });
  });

  it("has the classes that were asked for, and as many images as there are", async () => {
    const chosen = await choose("val", { classes: ["c", "a"], imagesMax: 99 });
    assert.deepEqual(chosen, { indices: [9, 0, 1, 2], labels: [0, 1, 1, 1], classes: ["c", "a"] });
  });

  it("needs labels, and classes that are there", async () => {
    await assert.rejects(choose("val/a", {}), { code: "DATA_INVALID", message: /no labels/ });
    await assert.rejects(choose("val", { classes: ["d"] }), {
      code: "NOT_FOUND",
      message: /no class d; there is a, b, c/,
    });
  });
});
