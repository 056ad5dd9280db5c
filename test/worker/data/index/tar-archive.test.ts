import assert from "node:assert/strict";
import path from "node:path";
import { indexTar } from "../../../../worker/data/index/tar-archive.ts";
import { type SampleFolder, sampleFolder, type TarMember, tarOf } from "../sample-data.ts";

interface TarEntry {
  readonly name: string;
  readonly offset: number;
  readonly bytes: number;
}

describe("tar index", () => {
  let folder: SampleFolder;
  beforeEach(() => {
    folder = sampleFolder();
  });
  afterEach(() => folder.remove());

  const index = (archive: Buffer): TarEntry[] => {
    folder.write("sample.tar", archive);
    const entries: TarEntry[] = [];
    indexTar(path.join(folder.path, "sample.tar"), (name, offset, bytes) => {
      entries.push({ name: Buffer.from(name).toString("utf8"), offset, bytes });
    });
    return entries;
  };
  const file = (name: string, text: string): TarMember => ({ name, contents: Buffer.from(text) });
  const record = (type: string, text: string): TarMember => ({ ...file("record", text), type });

  it("finds every file's place", () => {
    const archive = tarOf([
      { name: "a/", contents: Buffer.alloc(0), type: "5" },
      file("./a/one.jpg", "x".repeat(700)),
      file("a/two.jpg", "hello"),
    ]);
    const entries = index(archive);
    assert.deepEqual(entries, [
      { name: "a/one.jpg", offset: 1024, bytes: 700 },
      { name: "a/two.jpg", offset: 2560, bytes: 5 },
    ]);
    assert.equal(archive.toString("utf8", 2560, 2565), "hello");
  });

  it("knows names of any length, as GNU and as PAX write them", () => {
    const long = `${"folder/".repeat(40)}é.jpg`;
    const length = Buffer.byteLength(` path=${long}\n`) + 3;
    const entries = index(
      tarOf([
        record("L", `${long}\0`),
        file("cut off", "gnu"),
        record("x", `${length} path=${long}\n`),
        file("cut off", "pax"),
        record("g", "19 comment=ignored\n"),
        file("short.jpg", "plain"),
      ]),
    );
    assert.deepEqual(
      entries.map(({ name }) => name),
      [long, long, "short.jpg"],
    );
  });

  it("joins the two halves of a ustar name", () => {
    const archive = tarOf([file("name.jpg", "x")]);
    archive.write("some/prefix", 345, "latin1");
    fixChecksum(archive);
    assert.equal(index(archive)[0]?.name, "some/prefix/name.jpg");
  });

  it("reads sizes in binary, which GNU tar uses from 8 GiB on", () => {
    const archive = tarOf([file("big.jpg", "x".repeat(300))]);
    archive.fill(0, 124, 136);
    archive[124] = 0x80;
    archive.writeUInt32BE(300, 132);
    fixChecksum(archive);
    assert.deepEqual(index(archive), [{ name: "big.jpg", offset: 512, bytes: 300 }]);
  });

  it("reads archives with many small and some large files", () => {
    const members = Array.from({ length: 2000 }, (_, i) =>
      file(`${i}.jpg`, String(i).repeat(i % 500 === 0 ? 40_000 : 1)),
    );
    const entries = index(tarOf(members));
    assert.deepEqual(
      entries.map(({ name, bytes }) => `${name} ${bytes}`),
      members.map(({ name, contents }) => `${name} ${contents.length}`),
    );
  });

  it("accepts an archive without the empty blocks at its end", () => {
    const archive = tarOf([file("a.jpg", "x")]);
    assert.equal(index(archive.subarray(0, 1024)).length, 1);
  });

  it("tells a damaged, a cut off and a compressed archive", () => {
    const archive = tarOf([file("a.jpg", "x"), file("b.jpg", "y".repeat(600))]);
    const damaged = Buffer.from(archive);
    damaged.write("?", 1024 + 50);
    assert.throws(() => index(damaged), {
      code: "DATA_INVALID",
      message: /damaged, at byte 1024/,
    });
    const inData = archive.subarray(0, 1600);
    assert.throws(() => index(inData), /sample.tar is truncated: b.jpg needs 2136 bytes/);
    const inHeader = archive.subarray(0, 1100);
    assert.throws(() => index(inHeader), /is truncated at byte 1100/);
    const compressed = Buffer.alloc(1024, 1);
    compressed.writeUInt16BE(0x1f8b, 0);
    assert.throws(() => index(compressed), /is compressed; unpack it first/);
  });
});

function fixChecksum(archive: Buffer): void {
  archive.fill(" ", 148, 156);
  const sum = archive.subarray(0, 512).reduce((total, byte) => total + byte, 0);
  archive.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
}
