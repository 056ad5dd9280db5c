import assert from "node:assert/strict";
import { NameList, nameBegin, nameText } from "../../../../worker/data/index/name-list.ts";
import { NameLookup } from "../../../../worker/data/index/name-lookup.ts";

describe("name list", () => {
  const listOf = (names: readonly string[]): NameList => {
    const list = new NameList();
    for (const name of names) list.addText(name);
    return list;
  };

  it("keeps more names than it has room for at first", () => {
    const names = Array.from({ length: 9000 }, (_, i) => `n${i % 7}/é${i}.jpg`);
    const list = listOf(names);
    assert.equal(list.count, names.length);
    assert.deepEqual(
      names.map((_, i) => nameText(list, i)),
      names,
    );
  });

  it("takes back the last name", () => {
    const list = listOf(["a", "long name"]);
    list.removeLast();
    list.addText("b");
    assert.deepEqual([list.count, nameText(list, 0), nameText(list, 1)], [2, "a", "b"]);
  });

  it("replaces what is no UTF-8, as strings do", () => {
    const list = new NameList();
    list.add(Buffer.from("<é.jpg>", "latin1"), 1, 6);
    assert.equal(nameText(list, 0), "\ufffd.jpg");
  });

  it("finds names, of equal ones the last", () => {
    const names = [...Array.from({ length: 500 }, (_, i) => `a/${i}.jpg`), "", "a/7.jpg"];
    const list = listOf(names);
    const lookup = new NameLookup(list);
    const find = (name: string) => lookup.find(Buffer.from(name), 0, Buffer.byteLength(name));
    for (const [i, name] of names.entries()) {
      assert.equal(find(name), i === 7 ? 501 : i);
      assert.equal(lookup.find(list.bytes, nameBegin(list, i), list.end[i]!), find(name));
    }
    assert.equal(find("a/500.jpg"), undefined);
    assert.equal(new NameLookup(new NameList()).find(Buffer.from("a"), 0, 1), undefined);
  });
});
