import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { isJpeg, isUprightJpeg, jpegComponents } from "../../../worker/data/jpeg-header.ts";

const fixture = (name: string): Buffer => readFileSync(`test/fixtures/data/decode/${name}`);

describe("JPEG header", () => {
  it("tells JPEGs from other files", () => {
    assert.ok(isJpeg(fixture("q95.jpg")));
    assert.ok(!isJpeg(fixture("one.png")));
    assert.ok(!isJpeg(Buffer.from([0xff, 0xd8])));
  });

  it("counts colour components", () => {
    const components = ["gray.jpg", "q95.jpg", "prog.jpg", "cmyk.jpg"].map((name) =>
      jpegComponents(fixture(name)),
    );
    assert.deepEqual(components, [1, 3, 3, 4]);
  });

  it("knows which images EXIF data turn", () => {
    const upright = ["q95.jpg", "gray.jpg", "icc.jpg", "exif3.jpg", "exif6.jpg", "one.png"].map(
      (name) => isUprightJpeg(fixture(name)),
    );
    assert.deepEqual(upright, [true, true, true, false, false, false]);
  });

  it("takes damaged EXIF data for a turn, in either byte order", () => {
    assert.ok(isUprightJpeg(withExif("MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x01\0\0")));
    assert.ok(!isUprightJpeg(withExif("MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0")));
    assert.ok(isUprightJpeg(withExif("II*\0\x08\0\0\0\0\0")));
    assert.ok(!isUprightJpeg(withExif("II*\0\xff\xff\xff\x7f\0\0")));
    assert.ok(!isUprightJpeg(withExif("II*\0\x08\0\0\0\xff\xff")));
    assert.ok(!isUprightJpeg(withExif("II")));
  });

  it("comes to an end however a file is cut or garbled", () => {
    const whole = fixture("exif6.jpg");
    for (let end = 0; end < Math.min(whole.length, 700); end++) {
      const cut = whole.subarray(0, end);
      isUprightJpeg(cut);
      assert.ok(jpegComponents(cut) <= 3);
    }
  });
});

/** The beginning of a JPEG with these bytes after "Exif\0\0". */
function withExif(tiff: string): Buffer {
  const contents = Buffer.from(`Exif\0\0${tiff}`, "latin1");
  const head = Buffer.from([0xff, 0xd8, 0xff, 0xe1, 0, contents.length + 2]);
  return Buffer.concat([head, contents, Buffer.from([0xff, 0xda, 0, 2])]);
}
