import assert from "node:assert/strict";
import { isImageName, isImageNameAt } from "../../../../worker/data/index/image-name.ts";

describe("image name", () => {
  const check = (name: string): boolean => {
    const bytes = Buffer.from(`<${name}>`);
    assert.equal(isImageName(name), isImageNameAt(bytes, 1, bytes.length - 1));
    return isImageName(name);
  };

  it("ends like an image's, in large or small letters", () => {
    assert.ok(["a.jpg", "a/b.JPEG", "x.y.png", "z.webp", "é/ö.Tiff"].every(check));
    assert.ok(!["a.txt", "jpg", "b.jpg.part", "a.jpg/b", "ajpg", "a\u000ejpg"].some(check));
  });

  it("is no hidden file's, and no name in a hidden folder", () => {
    assert.ok(![".jpg", "a/.hidden.jpg", ".a/b.jpg", "a/../b.jpg"].some(check));
  });
});
