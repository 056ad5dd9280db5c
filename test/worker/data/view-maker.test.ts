import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import sharp from "sharp";
import { createImage, type RgbImage, type Size } from "../../../worker/data/augment/rgb-image.ts";
import { decodeImage } from "../../../worker/data/decode.ts";
import { JpegDecoder } from "../../../worker/data/jpeg-decoder.ts";
import type { LoadPlan } from "../../../worker/data/load-plan.ts";
import { ViewMaker } from "../../../worker/data/view-maker.ts";
import { planOf } from "./sample-data.ts";

const FOLDER = "test/fixtures/data/decode";
const SIZE = 16;
const KEY = { epoch: 1, index: 2 };
const COMMON = planOf(SIZE);
const CROP = { scale: [0.08, 1], ratio: [3 / 4, 4 / 3] } as const;
const TRAINING = { ...COMMON, epochs: 2, startStep: 0, ranks: 1, dropLast: false };
const PLANS: readonly LoadPlan[] = [
  {
    ...TRAINING,
    kind: "pretrain",
    augmentation: {
      crop: { scale: [...CROP.scale], ratio: [...CROP.ratio] },
      flip: 0.5,
      jitter: { probability: 1, brightness: 0.8, contrast: 0.8, saturation: 0.8, hue: 0.2 },
      grayscale: 0.2,
      blur: { probability: 1, sigma: [0.1, 2] },
    },
  },
  {
    ...TRAINING,
    kind: "linear",
    crop: { scale: [...CROP.scale], ratio: [...CROP.ratio] },
    flip: 0.5,
  },
  { ...COMMON, kind: "validation", resizeEdge: 18, passes: 1 },
];

/** Without libjpeg-turbo every image takes the way that the loaders' other tests cover. */
const itDecodesJpeg = isInstalled() ? it : (): void => {};

describe("view maker", () => {
  const makers: ViewMaker[] = [];
  const open = (plan: LoadPlan): ViewMaker => {
    const maker = new ViewMaker(plan);
    makers.push(maker);
    return maker;
  };
  after(() => {
    for (const maker of makers) maker.close();
  });

  for (const plan of PLANS) {
    const bytes = (plan.kind === "pretrain" ? 2 : 1) * 3 * SIZE ** 2;

    itDecodesJpeg(`makes the same ${plan.kind} views however an image is decoded`, async () => {
      for (const name of readdirSync(FOLDER).filter((file) => file.endsWith(".jpg"))) {
        const encoded = readFileSync(`${FOLDER}/${name}`);
        const maker = open({ ...plan, scaledDecoding: false });
        const [fast, slow] = [new Uint8Array(bytes), new Uint8Array(bytes)];
        const isFast = maker.paintJpeg(encoded, KEY, fast);
        maker.paint(await decodeImage(encoded), KEY, slow);
        assert.equal(isFast, !/cmyk|exif/.test(name), name);
        if (isFast) assert.deepEqual(fast, slow, name);
      }
    });

    itDecodesJpeg(`decodes a photograph no finer than its ${plan.kind} views need`, async () => {
      const encoded = await photograph({ width: 900, height: 700 });
      const [scaled, whole] = [new Uint8Array(bytes), new Uint8Array(bytes)];
      assert.ok(open(plan).paintJpeg(encoded, KEY, scaled));
      assert.ok(open({ ...plan, scaledDecoding: false }).paintJpeg(encoded, KEY, whole));
      assert.notDeepEqual(scaled, whole);
      const difference = scaled.reduce((sum, value, i) => sum + Math.abs(value - whole[i]!), 0);
      assert.ok(difference / bytes < 0.5, `${difference / bytes} levels on average`);
    });
  }

  itDecodesJpeg("hands out whole images to keep, of the sizes that are wanted", async () => {
    const encoded = await photograph({ width: 900, height: 700 });
    const sizes: Size[] = [];
    const kept: number[] = [];
    const keepUpTo = (widthMax: number) => ({
      wants: ({ width }: Size) => width <= widthMax,
      take: ({ width, height, data }: RgbImage) => {
        sizes.push({ width, height });
        kept.push(data.length);
      },
    });
    const target = new Uint8Array(3 * SIZE ** 2);
    open(PLANS[1]!).paintJpeg(encoded, KEY, target, keepUpTo(899));
    assert.deepEqual(sizes, []);
    open(PLANS[1]!).paintJpeg(encoded, KEY, target, keepUpTo(900));
    assert.deepEqual(sizes, [{ width: 900, height: 700 }]);
    assert.deepEqual(kept, [900 * 700 * 3]);
  });

  it("leaves what is damaged, turned or no JPEG to the other decoder", () => {
    const jpeg = readFileSync(`${FOLDER}/q95.jpg`);
    const target = new Uint8Array(3 * SIZE ** 2);
    const others = [
      Buffer.alloc(0),
      readFileSync(`${FOLDER}/one.png`),
      readFileSync(`${FOLDER}/cmyk.jpg`),
      readFileSync(`${FOLDER}/exif6.jpg`),
      jpeg.subarray(0, 20),
      jpeg.subarray(0, jpeg.length / 2),
      Buffer.concat([jpeg.subarray(0, 200), Buffer.alloc(300), jpeg.subarray(500)]),
    ];
    for (const bytes of others) assert.ok(!open(PLANS[1]!).paintJpeg(bytes, KEY, target));
  });
});

function isInstalled(): boolean {
  const decoder = JpegDecoder.open();
  decoder?.close();
  return decoder !== undefined;
}

/** Smooth and coloured, as photographs mostly are. */
function photograph({ width, height }: Size): Promise<Buffer> {
  const { data } = createImage(width, height);
  for (let i = 0; i < data.length; i++) {
    const pixel = Math.floor(i / 3);
    const [x, y] = [pixel % width, Math.floor(pixel / width)];
    data[i] = 128 + 60 * Math.sin(x / 40 + (i % 3)) + 50 * Math.cos(y / 23 - x / 90);
  }
  return sharp(data, { raw: { width, height, channels: 3 } })
    .jpeg({ quality: 92 })
    .toBuffer();
}
