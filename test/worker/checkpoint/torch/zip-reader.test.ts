import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { InputFile } from "../../../../worker/checkpoint/input-file.ts";
import { readZipEntries, readZipEntry } from "../../../../worker/checkpoint/torch/zip-reader.ts";
import { zipChunks } from "../../../../worker/checkpoint/torch/zip-writer.ts";

const CENTRAL = Buffer.from("PK\x01\x02", "latin1");
const END = Buffer.from("PK\x05\x06", "latin1");

const contents = new Map([
  ["a/data.pkl", Buffer.from("first")],
  ["a/data/0", Buffer.alloc(1000, 7)],
  ["a/data/1", Buffer.alloc(0)],
]);

describe("zip reader", () => {
  let dir: string;
  before(() => {
    dir = mkdtempSync(path.join(os.tmpdir(), "zip-"));
  });
  after(() => rmSync(dir, { recursive: true, force: true }));

  /** Writes the zip with `change` applied to it and reads every entry. */
  const readAll = (change: (zip: Buffer) => Buffer): Map<string, Buffer> => {
    const file = path.join(dir, "file.zip");
    writeFileSync(file, change(Buffer.concat([...zipChunks(contents)])));
    const input = InputFile.open(file);
    try {
      return new Map(
        [...readZipEntries(input)].map(([name, entry]) => [
          name,
          Buffer.from(readZipEntry(input, entry).buffer),
        ]),
      );
    } finally {
      input.close();
    }
  };
  /** Offset of the directory's record of entry `index`. */
  const record = (zip: Buffer, index: number): number => {
    let at = zip.indexOf(CENTRAL);
    for (let k = 0; k < index; k++) at = zip.indexOf(CENTRAL, at + 1);
    return at;
  };

  it("reads what was written, each entry at a multiple of 64 bytes", () => {
    assert.deepEqual(
      readAll((zip) => zip),
      contents,
    );
    const zip = Buffer.concat([...zipChunks(contents)]);
    assert.equal(zip.indexOf("first") % 64, 0);
  });

  it("reads a file whose sizes stand in zip64 fields", () => {
    assert.deepEqual(readAll(toZip64), contents);
  });

  it("reads a file with a comment", () => {
    const withComment = (zip: Buffer): Buffer => {
      zip.writeUInt16LE(2, zip.length - 2);
      return Buffer.concat([zip, Buffer.from("hi")]);
    };
    assert.deepEqual(readAll(withComment), contents);
  });

  it("takes a CRC of 0 for none, as PyTorch writes it on request", () => {
    const withoutCrc = (zip: Buffer): Buffer => {
      zip.writeUInt32LE(0, record(zip, 1) + 16);
      return zip;
    };
    assert.deepEqual(readAll(withoutCrc), contents);
  });

  const patched =
    (write: (zip: Buffer, at: number) => void, index = 1) =>
    (zip: Buffer): Buffer => {
      write(zip, record(zip, index));
      return zip;
    };
  for (const [what, change, reason] of [
    ["an empty file", () => Buffer.alloc(0), /without a zip directory/],
    [
      "a file that was cut off",
      (zip) => zip.subarray(0, zip.length - 1),
      /without a zip directory/,
    ],
    ["a file without its beginning", (zip) => zip.subarray(100), /does not fit|damaged|beyond/],
    [
      "an entry that is compressed, however much it would grow",
      patched((zip, at) => {
        zip.writeUInt16LE(8, at + 10);
        zip.writeUInt32LE(2 ** 31, at + 24);
      }),
      /"a\/data\/0" is compressed/,
    ],
    ["an encrypted entry", patched((zip, at) => zip.writeUInt16LE(1, at + 8)), /is encrypted/],
    [
      "an entry of two sizes",
      patched((zip, at) => zip.writeUInt32LE(2 ** 31, at + 24)),
      /has 2147483648 bytes, stored as 1000/,
    ],
    [
      "an entry larger than the file",
      patched((zip, at) => {
        zip.writeUInt32LE(2 ** 31, at + 20);
        zip.writeUInt32LE(2 ** 31, at + 24);
      }),
      /overlaps|cut off/,
    ],
    [
      "an entry without the zip64 sizes that it promises",
      patched((zip, at) => zip.writeUInt32LE(0xffffffff, at + 24)),
      /lacks its zip64 sizes/,
    ],
    [
      "an entry that lies elsewhere",
      patched((zip, at) => zip.writeUInt32LE(3, at + 42)),
      /header of its entry "a\/data\/0" is damaged/,
    ],
    [
      "an entry beyond the end",
      patched((zip, at) => zip.writeUInt32LE(2 ** 31, at + 42)),
      /beyond the end/,
    ],
    [
      "two entries that are one",
      (zip: Buffer) => {
        const first = record(zip, 1);
        zip.copy(zip, record(zip, 2), first, first + 54);
        return zip;
      },
      /two entries a\/data\/0/,
    ],
    [
      "more entries than its directory has room for",
      (zip: Buffer) => {
        zip.writeUInt16LE(60000, zip.indexOf(END) + 10);
        return zip;
      },
      /cannot have 60000 entries/,
    ],
    [
      "a changed byte in an entry",
      (zip: Buffer) => {
        zip[zip.indexOf(Buffer.alloc(1000, 7))]! ^= 1;
        return zip;
      },
      /a\/data\/0 does not match its CRC-32/,
    ],
  ] as readonly (readonly [string, (zip: Buffer) => Buffer, RegExp])[]) {
    it(`refuses ${what}`, () => {
      assert.throws(() => readAll(change), { code: "CHECKPOINT_INVALID", message: reason });
    });
  }

  it("refuses entries that overlap", () => {
    const local = Buffer.concat([...zipChunks(new Map([["a", Buffer.from("x")]]))]);
    const begin = local.indexOf(CENTRAL);
    // The second entry is the first one's contents: a zip in a zip, both in one directory.
    const inner = local.subarray(0, begin);
    const outer = Buffer.concat([...zipChunks(new Map([["b", inner]]))]);
    const first = Buffer.from(outer.subarray(outer.indexOf(CENTRAL), outer.lastIndexOf(END)));
    const second = Buffer.from(local.subarray(begin, local.lastIndexOf(END)));
    second.writeUInt32LE(outer.indexOf(inner), 42);
    const end = Buffer.from(outer.subarray(outer.lastIndexOf(END)));
    end.writeUInt16LE(2, 10);
    end.writeUInt32LE(first.length + second.length, 12);
    const body = outer.subarray(0, outer.lastIndexOf(END) - first.length);
    assert.throws(() => readAll(() => Buffer.concat([body, first, second, end])), {
      code: "CHECKPOINT_INVALID",
      message: /"a" overlaps another/,
    });
  });
});

/** The same file with every size and offset moved into zip64 fields. */
function toZip64(zip: Buffer): Buffer {
  const end = zip.lastIndexOf(END);
  const begin = zip.readUInt32LE(end + 16);
  const records: Buffer[] = [];
  for (let at = begin; at < end; ) {
    const nameBytes = zip.readUInt16LE(at + 28);
    const record = Buffer.from(zip.subarray(at, at + 46 + nameBytes));
    const extra = Buffer.alloc(32);
    extra.writeUInt16LE(0x4246, 0);
    extra.writeUInt16LE(1, 4);
    extra.writeUInt16LE(24, 6);
    for (const [index, field] of [24, 20, 42].entries()) {
      extra.writeBigUInt64LE(BigInt(record.readUInt32LE(field)), 8 + 8 * index);
      record.writeUInt32LE(0xffffffff, field);
    }
    record.writeUInt16LE(extra.length, 30);
    records.push(record, extra);
    at += 46 + nameBytes;
  }
  const directory = Buffer.concat(records);
  const wide = Buffer.alloc(56);
  wide.write("PK\x06\x06", "latin1");
  wide.writeBigUInt64LE(BigInt(records.length / 2), 32);
  wide.writeBigUInt64LE(BigInt(directory.length), 40);
  wide.writeBigUInt64LE(BigInt(begin), 48);
  const locator = Buffer.alloc(20);
  locator.write("PK\x06\x07", "latin1");
  locator.writeBigUInt64LE(BigInt(begin + directory.length), 8);
  const last = Buffer.alloc(22, 0xff);
  last.write("PK\x05\x06", "latin1");
  last.writeUInt16LE(0, 20);
  return Buffer.concat([zip.subarray(0, begin), directory, wide, locator, last]);
}
