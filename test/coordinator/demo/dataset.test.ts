import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import sharp from "sharp";
import { Chance } from "../../../coordinator/demo/chance.ts";
import { writeDataset } from "../../../coordinator/demo/dataset.ts";
import { drawPattern, PATTERN_NAMES } from "../../../coordinator/demo/pattern.ts";
import { COORDINATOR_MAIN, startNode } from "../../support/processes.ts";

const IMAGE_SIZE = 24;
const SIZE = { imageSize: IMAGE_SIZE, trainPerClass: 3, valPerClass: 2 };

describe("the demo's data set", function () {
  this.timeout(20_000);
  let folder: string;

  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), "simclr-demo-"));
  });

  afterEach(() => rm(folder, { recursive: true, force: true }));

  it("is a folder per class, with numbered JPEG files of the size that was asked for", async () => {
    await writeDataset(folder, 1, SIZE);
    for (const [split, count] of [
      ["train", SIZE.trainPerClass],
      ["val", SIZE.valPerClass],
    ] as const) {
      assert.deepEqual((await readdir(path.join(folder, split))).sort(), PATTERN_NAMES);
      for (const name of PATTERN_NAMES) {
        const files = (await readdir(path.join(folder, split, name))).sort();
        assert.deepEqual(files, ["000.jpg", "001.jpg", "002.jpg"].slice(0, count));
        const { format, width, height } = await sharp(
          path.join(folder, split, name, "000.jpg"),
        ).metadata();
        assert.deepEqual([format, width, height], ["jpeg", IMAGE_SIZE, IMAGE_SIZE]);
      }
    }
  });

  it("is drawn alone for a fleet that runs already, and again over itself", async () => {
    const args = [COORDINATOR_MAIN, "demo", "--images-only", "--dir", folder];
    const { code, stdout, stderr } = await startNode(args).exited();
    assert.deepEqual([code, stderr], [0, ""]);
    assert.match(stdout, /drew 1152 images .*\n {2}coordinator submit demo --set data\.root=/);
    assert.equal((await contents(folder)).length, 1_152);
    await rm(path.join(folder, "val"), { recursive: true });
    await writeFile(path.join(folder, "val"), "in the way");
    const failed = await startNode(args).exited();
    assert.equal(failed.code, 23);
    assert.match(failed.stderr, /^error: cannot draw into .*\n$/);
  });

  it("is the same for the same seed, and no two of its images are alike", async () => {
    const [first, again, other] = ["first", "again", "other"].map((name) =>
      path.join(folder, name),
    ) as [string, string, string];
    await writeDataset(first, 7, SIZE);
    await writeDataset(again, 7, SIZE);
    await writeDataset(other, 8, SIZE);
    assert.deepEqual(await contents(first), await contents(again));
    const all = [...(await contents(first)), ...(await contents(other))];
    assert.equal(new Set(all).size, all.length);
  });
});

describe("a pattern", () => {
  it("has classes that the mean colour does not tell apart", () => {
    const count = 200;
    const means = PATTERN_NAMES.map((name, label) =>
      Array.from({ length: count }, (_, i) => {
        const pixels = drawPattern(name, 16, new Chance(label * 1_000 + i));
        return meanColour(pixels);
      }),
    );
    // Nearest class mean, even on the images that the means were taken from.
    const centres = means.map((colours) => average(colours));
    const right = means.flatMap((colours, label) =>
      colours.filter((colour) => nearest(colour, centres) === label),
    );
    const accuracy = right.length / (count * PATTERN_NAMES.length);
    assert.ok(accuracy < 2 / PATTERN_NAMES.length, `${accuracy} by colour alone`);
  });
});

async function contents(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name))
    .sort();
  return await Promise.all(files.map((file) => readFile(file, "base64")));
}

type Colour = readonly [number, number, number];

function meanColour(pixels: Uint8Array): Colour {
  const sums: [number, number, number] = [0, 0, 0];
  for (const [i, value] of pixels.entries()) sums[i % 3]! += value;
  return sums.map((sum) => (sum * 3) / pixels.length) as [number, number, number];
}

function average(colours: readonly Colour[]): Colour {
  return [0, 1, 2].map(
    (channel) => colours.reduce((sum, colour) => sum + colour[channel]!, 0) / colours.length,
  ) as [number, number, number];
}

function nearest(colour: Colour, centres: readonly Colour[]): number {
  const distances = centres.map((centre) =>
    Math.hypot(...centre.map((value, channel) => value - colour[channel]!)),
  );
  return distances.indexOf(Math.min(...distances));
}
