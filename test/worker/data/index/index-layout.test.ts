import assert from "node:assert/strict";
import {
  allocateIndex,
  HEADER_BYTES,
  type IndexColumns,
  indexBytes,
  sealIndex,
  viewIndex,
} from "../../../../worker/data/index/index-layout.ts";

const NOTES = {
  labelling: "folders",
  classes: ["ant", "bee"],
  tars: ["a.tar"],
  sources: [{ path: "a.tar", bytes: 2048, modifiedNs: "12" }],
} as const;

describe("index layout", () => {
  /** Two images in a tar file, then one change. */
  const indexOf = (change: (columns: IndexColumns) => void): SharedArrayBuffer => {
    const shape = { count: 2, nameBytes: 4, inTars: true };
    const notes = {
      ...NOTES,
      classes: [...NOTES.classes],
      tars: ["a.tar"],
      sources: [...NOTES.sources],
    };
    const columns = allocateIndex(shape, notes);
    columns.labels.set([0, 1]);
    columns.nameEnd.set([3, 4]);
    columns.nameBytes.set(Buffer.from("xyz!"));
    columns.places?.tar.set([0, -1]);
    columns.places?.offset.set([512, 0]);
    columns.places?.bytes.set([1536, 0]);
    change(columns);
    sealIndex(columns);
    return columns.memory;
  };

  it("gives back what was put in", () => {
    const memory = indexOf(() => {});
    assert.equal(indexBytes(new Uint32Array(memory, 0, HEADER_BYTES / 4)), memory.byteLength);
    const found = viewIndex(memory);
    assert.deepEqual(found?.notes, NOTES);
    const { labels, nameBytes, nameEnd, places } = found.columns;
    assert.deepEqual(
      [[...labels], [...nameEnd]],
      [
        [0, 1],
        [3, 4],
      ],
    );
    assert.equal(Buffer.from(nameBytes).toString(), "xyz!");
    assert.deepEqual([...(places?.offset ?? [])], [512, 0]);
  });

  const harms: Readonly<Record<string, (columns: IndexColumns) => void>> = {
    "a label that is no class": ({ labels }) => labels.set([2]),
    "a label below none": ({ labels }) => labels.set([-2]),
    "a name that ends before it begins": ({ nameEnd }) => nameEnd.set([5]),
    "names that end too early": ({ nameEnd }) => nameEnd.set([3, 3]),
    "an image in an unknown tar file": ({ places }) => places?.tar.set([1]),
    "an image beyond its tar file's end": ({ places }) => places?.bytes.set([1537]),
    "an image before its tar file's beginning": ({ places }) => places?.offset.set([-1]),
    "an image of no length": ({ places }) => places?.bytes.set([Number.NaN]),
  };
  for (const [what, harm] of Object.entries(harms)) {
    it(`refuses ${what}, whatever the checksum says`, () => {
      assert.equal(viewIndex(indexOf(harm)), undefined);
    });
  }

  it("refuses notes that are none", () => {
    const damaged = indexOf(({ memory }) => new Uint8Array(memory).fill(32, memory.byteLength - 9));
    assert.equal(viewIndex(damaged), undefined);
  });
});
