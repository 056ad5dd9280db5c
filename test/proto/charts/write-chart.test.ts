import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import sharp from "sharp";
import { rasterise } from "../../../proto/charts/rasterise.ts";
import { checkPicturePath, writeChart } from "../../../proto/charts/write-chart.ts";

describe("a chart", function () {
  this.timeout(20_000);
  let folder: string;
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), "simclr-chart-"));
  });
  after(() => rm(folder, { recursive: true, force: true }));

  const chart = { width: 200, height: 100, title: "title", subtitle: "subtitle", option: {} };

  it("is written as the file's name says, and nothing is left beside it", async () => {
    for (const name of ["chart.svg", "chart.png"]) await writeChart(path.join(folder, name), chart);
    assert.match(await readFile(path.join(folder, "chart.svg"), "utf8"), /^<svg[\s\S]*>subtitle</);
    const { format, width, height } = await sharp(path.join(folder, "chart.png")).metadata();
    assert.deepEqual([format, width, height], ["png", 400, 200]);
    assert.deepEqual((await readdir(folder)).sort(), ["chart.png", "chart.svg"]);
  });

  it("cannot be written into a folder that is not there, or that is a file", async () => {
    const lost = path.join(folder, "lost", "chart.png");
    await assert.rejects(writeChart(lost, chart), { code: "STORAGE_FAILED", message: /lost/ });
    await assert.rejects(checkPicturePath(lost), { code: "NOT_FOUND", message: /does not exist/ });
    const below = path.join(folder, "chart.svg", "chart.png");
    await assert.rejects(checkPicturePath(below), {
      code: "NOT_FOUND",
      message: /is not a folder/,
    });
  });

  it("is a PNG or an SVG, and nothing else", async () => {
    await assert.rejects(checkPicturePath("chart.jpg"), {
      code: "USAGE",
      message: /\.png or \.svg/,
    });
    await checkPicturePath(path.join(folder, "new.PNG"));
  });

  it("has text in the font that comes with the package", async () => {
    const inked = async (family: string): Promise<Buffer> => {
      const text = `<text x="4" y="24" font-size="20" font-family="${family}">simclr</text>`;
      const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="90" height="30">${text}</svg>`;
      return sharp(await rasterise(svg))
        .raw()
        .toBuffer();
    };
    const arimo = await inked("Arimo");
    assert.ok(arimo.some((value) => value > 0));
    assert.deepEqual(await inked("A font that nobody has"), arimo);
  });
});
