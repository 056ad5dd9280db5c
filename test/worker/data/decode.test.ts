import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { decodeImage } from "../../../worker/data/decode.ts";

const FOLDER = "test/fixtures/data/decode";

/** Hashes of the RGB bytes that OpenCV 5's `imread` gives. */
const expected = JSON.parse(readFileSync(`${FOLDER}/expected.json`, "utf8")) as Readonly<
  Record<string, { readonly width: number; readonly height: number; readonly sha256: string }>
>;

describe("decoder", () => {
  for (const [name, { width, height, sha256 }] of Object.entries(expected)) {
    it(`gives OpenCV's pixels: ${name}`, async () => {
      const image = await decodeImage(readFileSync(`${FOLDER}/${name}`));
      assert.deepEqual([image.width, image.height], [width, height]);
      assert.equal(createHash("sha256").update(image.data).digest("hex"), sha256);
    });
  }

  const jpeg = readFileSync(`${FOLDER}/q95.jpg`);
  const bmp = readFileSync(`${FOLDER}/rgb.bmp`);
  const ppm = readFileSync(`${FOLDER}/rgb.ppm`);
  const refusals: readonly (readonly [string, Buffer, RegExp])[] = [
    ["an empty file", Buffer.alloc(0), /is empty/],
    ["a text", Buffer.from("<svg xmlns='http://www.w3.org/2000/svg'/>"), /is not a JPEG/],
    [
      "a JPEG without its end",
      jpeg.subarray(0, jpeg.length / 2),
      /cannot be decoded: .*premature/i,
    ],
    ["a JPEG without anything but its beginning", jpeg.subarray(0, 20), /cannot be decoded/],
    ["a BMP without its end", bmp.subarray(0, 1000), /is truncated/],
    ["a PPM without its end", ppm.subarray(0, 1000), /is truncated/],
    ["a PPM of 16 bits", Buffer.from("P6 1 1 65535 123456"), /values up to 65535/],
    ["a PPM without pixels", Buffer.from("P6 0 5 255 "), /impossible dimensions: 0 x 5/],
    ["a PPM of absurd size", Buffer.from("P6 99999 99999 255 "), /impossible dimensions/],
    ["a PNG of absurd size", absurdPng(), /cannot be decoded: .*(pixel limit|dimension)/i],
  ];
  for (const [what, bytes, reason] of refusals) {
    it(`refuses ${what} and says why`, async () => {
      await assert.rejects(decodeImage(bytes), reason);
    });
  }

  it("knows the reason while other images are decoded", async () => {
    const whole = readFileSync(`${FOLDER}/gray.jpg`);
    const damaged = jpeg.subarray(0, jpeg.length / 2);
    for (let round = 0; round < 100; round++) {
      await Promise.all([
        assert.rejects(decodeImage(damaged), /premature/i),
        ...[1, 2, 3].map(() => decodeImage(whole)),
      ]);
    }
  });
});

/** A header that promises 60000 x 60000 pixels. */
function absurdPng(): Buffer {
  const png = readFileSync(`${FOLDER}/gama.png`);
  png.writeUInt32BE(60000, 16);
  png.writeUInt32BE(60000, 20);
  png.writeUInt32BE(crc32(png.subarray(12, 29)), 29);
  return png;
}

function crc32(bytes: Buffer): number {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return ~crc >>> 0;
}
