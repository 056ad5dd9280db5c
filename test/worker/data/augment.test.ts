import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { gaussianBlur } from "../../../worker/data/augment/blur.ts";
import {
  adjustBrightness,
  adjustContrast,
  adjustSaturation,
  toGrayscale,
} from "../../../worker/data/augment/colour.ts";
import { flipHorizontal } from "../../../worker/data/augment/flip.ts";
import { adjustHue } from "../../../worker/data/augment/hue.ts";
import {
  centerCrop,
  cropResize,
  resizeCenterCrop,
  resizeShortEdge,
} from "../../../worker/data/augment/resize.ts";
import { type Box, createImage, type RgbImage } from "../../../worker/data/augment/rgb-image.ts";
import { Prng } from "../../support/prng.ts";

const FOLDER = "test/fixtures/golden";

/** Pillow's results, 8-bit [height, width, 3], and the parameters that led to them. */
const golden = readTensors(readFileSync(`${FOLDER}/augment.safetensors`));
const parameters = JSON.parse(readFileSync(`${FOLDER}/augment.json`, "utf8")) as Readonly<
  Record<string, number | (Box & { readonly size: number })>
>;

describe("augmentation", () => {
  const inPlace: Readonly<Record<string, (image: RgbImage, amount: number) => void>> = {
    brightness: adjustBrightness,
    contrast: adjustContrast,
    saturation: adjustSaturation,
    hue: adjustHue,
    blur: gaussianBlur,
  };
  for (const [name, parameter] of Object.entries(parameters)) {
    it(`gives Pillow's pixels: ${name}`, () => {
      const image = input();
      if (typeof parameter === "number") {
        inPlace[name.replace(/\d+$/, "")]?.(image, parameter);
        assertEqualImages(image, golden.get(name));
      } else {
        assertEqualImages(cropResize(image, parameter, parameter.size), golden.get(name));
      }
    });
  }

  it("gives mmcv's grey", () => {
    const image = input();
    toGrayscale(image);
    assertEqualImages(image, golden.get("gray"));
  });

  it("gives Pillow's pixels when the short edge is resized", () => {
    assertEqualImages(resizeShortEdge(input(), 64), golden.get("resizeEdge64"));
  });

  it("truncates the long edge", () => {
    const { width, height } = resizeShortEdge(noise(31, 17), 10);
    assert.deepEqual({ width, height }, { width: 18, height: 10 });
  });

  it("rounds the offset of the centre to the even neighbour", () => {
    // (8 - 3) / 2 = 2.5 and (6 - 3) / 2 = 1.5: both round to 2.
    const image = noise(8, 6);
    const crop = centerCrop(image, 3);
    assert.deepEqual(crop.data, cropResize(image, { x: 2, y: 2, width: 3, height: 3 }, 3).data);
  });

  it("resizes and crops in one go as in two", () => {
    for (const [width, height] of [
      [97, 41],
      [41, 97],
      [20, 21],
    ] as const) {
      const image = noise(width, height);
      const apart = centerCrop(resizeShortEdge(image, 32), 27);
      assertEqualImages(resizeCenterCrop(image, { edge: 32, size: 27 }), apart);
    }
  });

  it("leaves a crop alone that has the right size already", () => {
    const image = noise(9, 9);
    assertEqualImages(cropResize(image, { x: 0, y: 0, width: 9, height: 9 }, 9), image);
  });

  it("mirrors, and mirrors back", () => {
    const image = noise(5, 3);
    const mirrored = { ...image, data: image.data.slice() };
    flipHorizontal(mirrored);
    assert.deepEqual([...mirrored.data.slice(0, 3)], [...image.data.slice(12, 15)]);
    assert.deepEqual([...mirrored.data.slice(6, 9)], [...image.data.slice(6, 9)]);
    flipHorizontal(mirrored);
    assertEqualImages(mirrored, image);
  });

  it("blurs an image that is smaller than the blur", () => {
    const image = createImage(2, 1);
    image.data.set([0, 100, 200, 100, 100, 0]);
    gaussianBlur(image, 9);
    assert.deepEqual([...image.data], [50, 100, 100, 50, 100, 100]);
  });

  it("changes nothing with neutral parameters", () => {
    const image = noise(16, 16);
    const copy = { ...image, data: image.data.slice() };
    for (const adjust of [adjustBrightness, adjustContrast, adjustSaturation]) adjust(copy, 1);
    gaussianBlur(copy, 0);
    assertEqualImages(copy, image);
  });
});

function input(): RgbImage {
  const image = golden.get("rgb");
  assert.ok(image !== undefined);
  return { ...image, data: image.data.slice() };
}

function noise(width: number, height: number): RgbImage {
  const prng = new Prng(width * 1000 + height);
  const image = createImage(width, height);
  for (let i = 0; i < image.data.length; i++) image.data[i] = prng.int(0, 255);
  return image;
}

function assertEqualImages(actual: RgbImage, expected: RgbImage | undefined): void {
  assert.ok(expected !== undefined);
  assert.deepEqual([actual.width, actual.height], [expected.width, expected.height]);
  const different = actual.data.findIndex((value, i) => value !== expected.data[i]);
  assert.equal(different, -1, "first byte that differs");
}

function readTensors(file: Buffer): Map<string, RgbImage> {
  const headerEnd = 8 + Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString("utf8", 8, headerEnd)) as Record<
    string,
    { readonly shape: readonly [number, number, number]; readonly data_offsets: [number, number] }
  >;
  return new Map(
    Object.entries(header).map(([name, { shape, data_offsets }]) => {
      const [begin, end] = data_offsets;
      const data = new Uint8Array(file.subarray(headerEnd + begin, headerEnd + end));
      return [name, { height: shape[0], width: shape[1], data }];
    }),
  );
}
