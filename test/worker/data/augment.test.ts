import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { gaussianBlur } from "../../../worker/data/augment/blur.ts";
import { Canvas } from "../../../worker/data/augment/canvas.ts";
import {
  adjustBrightness,
  adjustContrast,
  adjustSaturation,
  toGrayscale,
} from "../../../worker/data/augment/colour.ts";
import { adjustHue } from "../../../worker/data/augment/hue.ts";
import {
  cropResize,
  resizeCenterCrop,
  shortEdgeSize,
} from "../../../worker/data/augment/resize.ts";
import {
  type Box,
  createImage,
  type RgbImage,
  type Size,
} from "../../../worker/data/augment/rgb-image.ts";
import { Prng } from "../../support/prng.ts";
import { blendPixels, blurPixels, greyPixels, turnPixels } from "./reference-pixels.ts";

const FOLDER = "test/fixtures/golden";

/** Pillow's results, 8-bit [height, width, 3], and the parameters that led to them. */
const golden = readTensors(readFileSync(`${FOLDER}/augment.safetensors`));
const parameters = JSON.parse(readFileSync(`${FOLDER}/augment.json`, "utf8")) as Readonly<
  Record<string, number | (Box & { readonly size: number })>
>;

describe("augmentation", () => {
  const inPlace: Readonly<Record<string, (canvas: Canvas, amount: number) => void>> = {
    brightness: adjustBrightness,
    contrast: adjustContrast,
    saturation: adjustSaturation,
    hue: adjustHue,
    blur: gaussianBlur,
  };
  for (const [name, parameter] of Object.entries(parameters)) {
    it(`gives Pillow's pixels: ${name}`, () => {
      if (typeof parameter === "number") {
        const change = inPlace[name.replace(/\d+$/, "")]!;
        const actual = changed(input(), (canvas) => change(canvas, parameter));
        assertEqualImages(actual, golden.get(name));
      } else {
        const { size } = parameter;
        assertEqualImages(cut(input(), parameter, square(size)), golden.get(name));
      }
    });
  }

  it("gives mmcv's grey", () => {
    assertEqualImages(changed(input(), toGrayscale), golden.get("gray"));
  });

  it("gives Pillow's pixels when the short edge is resized", () => {
    const image = input();
    const whole = shortEdgeSize(image, 64);
    assertEqualImages(centre(image, 64, whole), golden.get("resizeEdge64"));
  });

  it("truncates the long edge", () => {
    assert.deepEqual(shortEdgeSize({ width: 31, height: 17 }, 10), { width: 18, height: 10 });
  });

  it("rounds the offset of the centre to the even neighbour", () => {
    // (8 - 3) / 2 = 2.5 and (6 - 3) / 2 = 1.5: both round to 2.
    const image = noise(8, 6);
    const box = { x: 2, y: 2, width: 3, height: 3 };
    assertEqualImages(centre(image, 6, square(3)), cut(image, box, square(3)));
  });

  it("resizes and crops in one go as in two", () => {
    for (const [width, height] of [
      [97, 41],
      [41, 97],
      [20, 21],
    ] as const) {
      const image = noise(width, height);
      const whole = centre(image, 32, shortEdgeSize(image, 32));
      assertEqualImages(centre(image, 32, square(27)), centre(whole, 32, square(27)));
    }
  });

  it("leaves a crop alone that has the right size already", () => {
    const image = noise(9, 9);
    assertEqualImages(cut(image, { x: 0, y: 0, width: 9, height: 9 }, square(9)), image);
  });

  it("mirrors what it cuts out", () => {
    const image = noise(41, 23);
    const box = { x: 4, y: 1, width: 30, height: 20 };
    for (const size of [square(16), { width: 13, height: 7 }]) {
      const plain = cut(image, box, size);
      const flipped = cut(image, box, size, true);
      for (let y = 0; y < size.height; y++) {
        for (let x = 0; x < size.width; x++) {
          assert.deepEqual(pixel(flipped, x, y), pixel(plain, size.width - 1 - x, y));
        }
      }
    }
  });

  it("cuts within pixels, for an image that was decoded at half its size", () => {
    const image = createImage(8, 8);
    for (let i = 0; i < image.data.length; i++) image.data[i] = 8 * (Math.floor(i / 3) % 8);
    // A ramp of 8 a pixel, resized by 2: steps of 4, from the middle of the first pixel on.
    const view = cut(image, { x: 2.5, y: 2.5, width: 4, height: 4 }, square(8));
    assert.deepEqual(pixel(view, 3, 4), [30, 30, 30]);
    assert.deepEqual(pixel(view, 4, 4), [34, 34, 34]);
  });

  it("blurs an image that is smaller than the blur", () => {
    const image = createImage(2, 1);
    image.data.set([0, 100, 200, 100, 100, 0]);
    const view = changed(image, (canvas) => gaussianBlur(canvas, 9));
    assert.deepEqual([...view.data], [50, 100, 100, 50, 100, 100]);
  });

  it("changes nothing with neutral parameters", () => {
    const image = noise(16, 16);
    const view = changed(image, (canvas) => {
      for (const adjust of [adjustBrightness, adjustContrast, adjustSaturation]) adjust(canvas, 1);
      gaussianBlur(canvas, 0);
    });
    assertEqualImages(view, image);
  });

  it("is the same for every size as pixel by pixel", () => {
    for (const [width, height] of [
      [64, 48],
      [37, 29],
      [16, 17],
      [5, 3],
      [1, 1],
    ] as const) {
      const image = noise(width, height);
      for (const factor of [0, 0.2, 1.3, 1.8]) {
        const check = (kind: "brightness" | "contrast" | "saturation"): void =>
          assertEqualImages(
            changed(image, (canvas) => inPlace[kind]!(canvas, factor)),
            blendPixels(image, kind, factor),
          );
        for (const kind of ["brightness", "contrast", "saturation"] as const) check(kind);
      }
      assertEqualImages(changed(image, toGrayscale), greyPixels(image));
      for (const sigma of [0.1, 1.3, 1.5, 2, 7]) {
        const view = changed(image, (canvas) => gaussianBlur(canvas, sigma));
        assertEqualImages(view, blurPixels(image, sigma));
      }
    }
  });

  it("turns the hue of every colour as pixel by pixel", () => {
    // All greens and blues, with every 15th red.
    for (let red = 0; red < 256; red += 15) {
      const image = createImage(256, 256);
      for (let i = 0; i < 65_536; i++) image.data.set([red, i >> 8, i & 255], i * 3);
      const hue = ((red % 7) - 3) / 15;
      assertEqualImages(
        changed(image, (canvas) => adjustHue(canvas, hue)),
        turnPixels(image, hue),
      );
    }
  });
});

/** The image after a change of the view in place. */
function changed(image: RgbImage, work: (canvas: Canvas) => void): RgbImage {
  const canvas = new Canvas(image);
  canvas.setImage(image);
  work(canvas);
  return canvas.toImage();
}

function cut(image: RgbImage, box: Box, size: Size, flip = false): RgbImage {
  const canvas = new Canvas(size);
  canvas.load(image);
  cropResize(canvas, box, { flip });
  return canvas.toImage();
}

function centre(image: RgbImage, edge: number, size: Size): RgbImage {
  const canvas = new Canvas(size);
  canvas.load(image);
  resizeCenterCrop(canvas, edge);
  return canvas.toImage();
}

function square(edge: number): Size {
  return { width: edge, height: edge };
}

function pixel({ width, data }: RgbImage, x: number, y: number): number[] {
  return [...data.subarray((y * width + x) * 3, (y * width + x) * 3 + 3)];
}

function input(): RgbImage {
  const image = golden.get("rgb");
  assert.ok(image !== undefined);
  return image;
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
