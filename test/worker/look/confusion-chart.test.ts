import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import sharp from "sharp";
import { drawChart } from "../../../proto/charts/draw-chart.ts";
import { confusionChart } from "../../../worker/look/confusion-chart.ts";
import { confusionMatrix, parseConfusion } from "../../../worker/look/confusion-matrix.ts";
import { writeConfusion } from "../../../worker/look/write-confusion.ts";

/** One right answer per class, and class 1 once taken for class 2. */
function counts(classes: number): Int32Array {
  const flat = new Int32Array(classes ** 2);
  for (let k = 0; k < classes; k++) flat[k * classes + k] = 1;
  flat[classes + 2] = 1;
  return flat;
}

describe("the picture of a confusion matrix", function () {
  this.timeout(20_000);

  it("names its classes and counts the images in its cells", async () => {
    const flat = counts(3).map((images) => 17 * images);
    const svg = drawChart(await confusionChart(confusionMatrix("r", ["cat", "dog", "owl"], flat)));
    for (const text of ["cat", "owl", ">17<", "top-1 75.00 %", "true", "predicted"]) {
      assert.ok(svg.includes(text), text);
    }
  });

  it("has a pixel or more for each pair when there are too many classes for names", async () => {
    const classes = 60;
    const chart = await confusionChart(confusionMatrix("r", [], counts(classes)));
    const uri = /data:image\/png;base64,([^"]+)/.exec(drawChart(chart))?.[1] ?? "";
    const { data, info } = await sharp(Buffer.from(uri, "base64"))
      .removeAlpha()
      .raw()
      .toBuffer({ resolveWithObject: true });
    const side = info.width / classes;
    assert.ok(Number.isInteger(side));
    const brightness = (k: number, j: number): number =>
      data[(k * side * info.width + j * side) * info.channels]!;
    const [whole, half, none] = [brightness(5, 5), brightness(1, 2), brightness(2, 1)];
    assert.equal(none, 255);
    assert.ok(whole < half && half < none);
  });

  it("is left in the stage's folder beside its numbers", async () => {
    const folder = await mkdtemp(path.join(tmpdir(), "simclr-confusion-"));
    try {
      await writeConfusion(folder, { recipe: "r", classes: ["a", "b", "c"] }, counts(3));
      const file = path.join(folder, "confusion.json");
      const { classes } = parseConfusion(await readFile(file, "utf8"), file);
      assert.deepEqual(classes, ["a", "b", "c"]);
      assert.equal((await sharp(path.join(folder, "confusion.png")).metadata()).format, "png");
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
