import assert from "node:assert/strict";
import fc from "fast-check";
import { commonFolder, listByFolder } from "../../../../worker/data/index/image-list.ts";
import { NameList, nameText } from "../../../../worker/data/index/name-list.ts";

function listOf(names: readonly string[]): NameList {
  const list = new NameList();
  for (const name of names) list.addText(name);
  return list;
}

describe("image list", () => {
  const folders = fc.array(fc.constantFrom("a", "ab", "é"), { maxLength: 3 });
  const images = fc.array(
    folders.map((parts) => [...parts, "1.jpg"].join("/")),
    { minLength: 1, maxLength: 8 },
  );

  it("finds the longest folder that all images lie in", () => {
    fc.assert(
      fc.property(images, (names) => {
        const common = Buffer.from(commonFolder(listOf(["notes.txt", ...names]))).toString();
        const inside = (folder: string): boolean => names.every((name) => name.startsWith(folder));
        assert.ok(inside(common) && (common === "" || common.endsWith("/")), common);
        const next = /^[^/]*\//.exec(names[0]!.slice(common.length))?.[0];
        assert.ok(
          next === undefined || !inside(common + next),
          `${common} could be ${next} longer`,
        );
      }),
    );
  });

  it("numbers the folders by name, the empty ones among them", () => {
    const names = listOf(["c/2.jpg", "a-b/1.jpg", "a/1.jpg", "c/1.jpg", "a/1.jpg"]);
    const list = listByFolder(names, { folders: ["c", "b"] });
    const sorted = Array.from(list.order, (i) => nameText(names, i));
    assert.deepEqual(sorted, ["a/1.jpg", "a-b/1.jpg", "c/1.jpg", "c/2.jpg"]);
    assert.deepEqual([...list.labels], [0, 1, 3, 3]);
    assert.deepEqual(list.classes, ["a", "a-b", "b", "c"]);
    assert.equal(list.order[0], 4, "of two images of one name the last stays");
  });

  it("has no labels when one image lies in no folder", () => {
    const list = listByFolder(listOf(["a/1.jpg", "1.jpg"]));
    assert.deepEqual(
      [[...list.order], [...list.labels]],
      [
        [1, 0],
        [-1, -1],
      ],
    );
    assert.deepEqual([list.classes, list.labelling], [[], "none"]);
  });
});
