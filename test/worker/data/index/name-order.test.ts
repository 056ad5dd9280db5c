import assert from "node:assert/strict";
import fc from "fast-check";
import { NameList } from "../../../../worker/data/index/name-list.ts";
import { nameOrder, numbersUpTo, sortNumbers } from "../../../../worker/data/index/name-order.ts";

/** Characters whose order in UTF-8 and in UTF-16 differs are among them. */
const CHARACTERS = [
  "a",
  "b",
  "-",
  "/",
  "0",
  "é",
  "\u{ffff}",
  "\u{e000}",
  "\u{1f600}",
  "\u{10ffff}",
];
const name = fc.string({ unit: fc.constantFrom(...CHARACTERS), maxLength: 6 });

function sorted(names: readonly string[], prefix = ""): string[] {
  const list = new NameList();
  for (const each of names) list.addText(`${prefix}${each}`);
  const order = numbersUpTo(list.count);
  sortNumbers(order, nameOrder(list, list.count, Buffer.byteLength(prefix)).compare);
  return Array.from(order, (i) => names[i]!);
}

function topFolder(text: string): string {
  return text.slice(0, Math.max(0, text.indexOf("/")));
}

function byFolder(a: string, b: string): number {
  const [folderA, folderB] = [topFolder(a), topFolder(b)];
  if (folderA !== folderB) return folderA < folderB ? -1 : 1;
  return a < b ? -1 : a > b ? 1 : 0;
}

describe("name order", () => {
  it("is that of strings, folder by folder", () => {
    fc.assert(
      fc.property(fc.array(name, { maxLength: 60 }), (names) => {
        assert.deepEqual(sorted(names), names.toSorted(byFolder));
        assert.deepEqual(sorted(names, "träin/"), names.toSorted(byFolder));
      }),
    );
  });

  it("leaves equal numbers in their order", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(5), { maxLength: 100 }), (keys) => {
        const order = numbersUpTo(keys.length);
        sortNumbers(order, (a, b) => keys[a]! - keys[b]!);
        const expected = [...keys.keys()].sort((a, b) => keys[a]! - keys[b]! || a - b);
        assert.deepEqual([...order], expected);
      }),
    );
  });
});
