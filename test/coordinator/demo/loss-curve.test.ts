import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import sharp from "sharp";
import { type LossCurve, lossChart, writeLossCurve } from "../../../coordinator/demo/loss-curve.ts";
import { drawChart } from "../../../proto/charts/draw-chart.ts";

const curve: LossCurve = {
  title: "a run",
  subtitle: "of three steps",
  rows: [
    { step: 1, loss: 4.5, lr: 0.1 },
    { step: 2, loss: 4, lr: 0.2 },
    { step: 3, loss: 3.5, lr: 0.1 },
  ],
  globalBatch: 32,
};

describe("the loss curve", function () {
  this.timeout(20_000);
  let folder: string;

  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), "simclr-curve-"));
  });

  after(() => rm(folder, { recursive: true, force: true }));

  it("names its axes and shows where chance lies", () => {
    const svg = drawChart(lossChart(curve));
    for (const text of ["a run", "of three steps", "NT-Xent loss", "learning rate", "step"]) {
      assert.ok(svg.includes(text), text);
    }
    assert.ok(svg.includes("ln(2 x 32 - 1) = 4.14"));
  });

  it("is written as SVG and as PNG", async () => {
    const paths = await writeLossCurve(folder, curve);
    assert.equal((await sharp(paths.svg).metadata()).format, "svg");
    const png = await sharp(paths.png).metadata();
    assert.deepEqual([png.format, png.width, png.height], ["png", 1800, 1200]);
    const { channels } = await sharp(paths.png).stats();
    assert.ok(channels.slice(0, 3).every(({ min, max }) => min < 200 && max === 255));
  });
});
