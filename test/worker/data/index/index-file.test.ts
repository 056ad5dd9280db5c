import assert from "node:assert/strict";
import { readdirSync, readFileSync, renameSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import path from "node:path";
import { indexDataset } from "../../../../worker/data/index/index-dataset.ts";
import { nameText } from "../../../../worker/data/index/name-list.ts";
import { type SampleFolder, sampleFolder, samplePicture, tarOf } from "../sample-data.ts";

interface Request {
  readonly path: string;
  readonly annotations?: string;
  readonly limit?: number;
  readonly indexFolder?: string;
  readonly keptFrom?: number;
}

/** Long ago, so that indexes of such files are kept. */
const OLD_S = 1_600_000_000;

describe("kept index", () => {
  let folder: SampleFolder;
  beforeEach(() => {
    folder = sampleFolder();
    writeTar("data/train.tar", "ant/1.ppm", "bee/2.ppm");
  });
  afterEach(() => folder.remove());

  const file = (name: string): string => path.join(folder.path, name);
  const makeOld = (...names: readonly string[]): void => {
    for (const name of names) utimesSync(file(name), OLD_S, OLD_S);
  };
  const writeTar = (name: string, ...members: readonly string[]): void => {
    folder.write(name, tarOf(members.map((each) => ({ name: each, contents: samplePicture(1) }))));
    makeOld(name);
  };
  const index = ({ path: where, annotations, limit, indexFolder, keptFrom = 1 }: Request) =>
    indexDataset(
      {
        split: "train",
        location: file(where),
        annotations: annotations === undefined ? undefined : file(annotations),
        limit,
        folders: [
          path.dirname(file(where)),
          ...(indexFolder === undefined ? [] : [file(indexFolder)]),
        ],
        keptFrom,
      },
      () => {},
    );
  const open = (request: Request): string[] => {
    const { count, nameBytes, nameEnd } = index(request).dataset;
    const names = { bytes: nameBytes, end: nameEnd };
    return Array.from({ length: count }, (_, i) => nameText(names, i));
  };
  const indexes = (below = "data"): string[] =>
    readdirSync(file(below)).filter((name) => /^\..*\.(index|tmp)$/.test(name));
  /** Other names in the same number of bytes, and the same time: such a change cannot be seen. */
  const changeUnseen = (): void => writeTar("data/train.tar", "ant/9.ppm", "bee/8.ppm");

  it("is used at the next start", () => {
    const names = open({ path: "data/train.tar" });
    assert.deepEqual(names, ["ant/1.ppm", "bee/2.ppm"]);
    assert.equal(indexes().length, 1);
    changeUnseen();
    assert.deepEqual(open({ path: "data/train.tar" }), names);
    assert.deepEqual(open({ path: "data/train.tar", limit: 1 }), ["ant/1.ppm"]);
  });

  it("moves with the data that it lies beside", () => {
    const names = open({ path: "data/train.tar" });
    changeUnseen();
    renameSync(file("data"), file("moved"));
    assert.deepEqual(open({ path: "moved/train.tar" }), names);
  });

  it("is made anew when a tar file has changed", () => {
    open({ path: "data/train.tar" });
    changeUnseen();
    utimesSync(file("data/train.tar"), OLD_S, OLD_S + 1);
    assert.deepEqual(open({ path: "data/train.tar" }), ["ant/9.ppm", "bee/8.ppm"]);
    writeTar("data/train.tar", "ant/9.ppm", "bee/8.ppm", "cow/7.ppm");
    assert.equal(open({ path: "data/train.tar" }).length, 3);
    assert.equal(indexes().length, 1);
  });

  it("is made anew when a shard comes or goes", () => {
    assert.equal(open({ path: "data/t*.tar" }).length, 2);
    writeTar("data/tail.tar", "cow/1.ppm");
    assert.deepEqual(open({ path: "data/t*.tar" }), ["ant/1.ppm", "bee/2.ppm", "cow/1.ppm"]);
    rmSync(file("data/train.tar"));
    assert.deepEqual(open({ path: "data/t*.tar" }), ["1.ppm"]);
  });

  it("is made anew when a folder has changed, however deep", () => {
    folder.write("data/train/ant/deep/1.ppm", samplePicture(1));
    makeOld("data/train", "data/train/ant", "data/train/ant/deep");
    assert.equal(open({ path: "data/train" }).length, 1);
    assert.equal(indexes().length, 1);
    folder.write("data/train/ant/deep/2.ppm", samplePicture(2));
    assert.deepEqual(open({ path: "data/train" }), ["ant/deep/1.ppm", "ant/deep/2.ppm"]);
  });

  it("is used for folders that have not changed", () => {
    folder.write("data/train/ant/1.ppm", samplePicture(1));
    makeOld("data/train", "data/train/ant");
    open({ path: "data/train" });
    rmSync(file("data/train/ant/1.ppm"));
    makeOld("data/train/ant");
    assert.deepEqual(open({ path: "data/train" }), ["ant/1.ppm"]);
  });

  it("is made anew when the annotations have changed", () => {
    const train = { path: "data/train.tar", annotations: "data/list.txt" };
    folder.write("data/list.txt", "bee/2.ppm 1\n");
    makeOld("data/list.txt");
    assert.deepEqual(open(train), ["bee/2.ppm"]);
    assert.deepEqual(open(train), ["bee/2.ppm"]);
    assert.equal(indexes().length, 1);
    folder.write("data/list.txt", "bee/2.ppm 1\nant/1.ppm 0\n");
    assert.deepEqual(open(train), ["bee/2.ppm", "ant/1.ppm"]);
    rmSync(file("data/list.txt"));
    assert.deepEqual(open(train), ["ant/1.ppm", "bee/2.ppm"]);
  });

  it("tells of an image that is annotated and missing only if the limit lets it in", () => {
    folder.write("data/list.txt", "ant/1.ppm 0\nno/3.ppm 1\n");
    makeOld("data/list.txt");
    const train = { path: "data/train.tar", annotations: "data/list.txt" };
    for (let start = 0; start < 2; start++) {
      assert.throws(() => open(train), /lacks no\/3.ppm, which is annotated/);
      assert.deepEqual(open({ ...train, limit: 1 }), ["ant/1.ppm"]);
    }
  });

  it("is never trusted when it is damaged or cut off", () => {
    const names = open({ path: "data/train.tar" });
    const kept = `data/${indexes()[0]}`;
    const whole = readFileSync(file(kept));
    const damaged = [0, 5, 8, 13, 16, 20, 24, 28, 40, 60, 90, whole.length - 3].map((at) => {
      const bytes = Buffer.from(whole);
      bytes[at]! ^= 0x81;
      return bytes;
    });
    const cutOff = [0, 10, 32, whole.length - 1].map((length) => whole.subarray(0, length));
    for (const bytes of [...damaged, ...cutOff, Buffer.concat([whole, Buffer.alloc(1)])]) {
      writeFileSync(file(kept), bytes);
      assert.deepEqual(open({ path: "data/train.tar" }), names);
      assert.deepEqual(readFileSync(file(kept)), whole, "it was not made anew");
    }
  });

  it("is not kept of what has just been written, nor of a small data set", () => {
    utimesSync(file("data/train.tar"), new Date(), new Date());
    open({ path: "data/train.tar" });
    makeOld("data/train.tar");
    open({ path: "data/train.tar", keptFrom: 3 });
    assert.deepEqual(indexes(), []);
  });

  it("loses what a writer that was killed has left", () => {
    open({ path: "data/train.tar" });
    const kept = `data/${indexes()[0]}`;
    for (const name of [`${kept}.12.tmp`, `${kept}.34.tmp`]) folder.write(name, "half");
    makeOld(`${kept}.12.tmp`);
    rmSync(file(kept));
    open({ path: "data/train.tar" });
    assert.deepEqual(indexes().length, 2);
  });

  describe("of data that lies where nothing can be written", () => {
    /** A folder stands where the index would. */
    beforeEach(() => {
      open({ path: "data/train.tar" });
      const [name] = indexes();
      rmSync(file(`data/${name}`));
      folder.write(`data/${name}/in-the-way`, "");
    });

    it("lies in the worker's folder", () => {
      const request = { path: "data/train.tar", indexFolder: "work/.data-index" };
      assert.equal(index(request).notKept, undefined);
      assert.deepEqual([indexes().length, indexes("work/.data-index").length], [1, 1]);
      changeUnseen();
      assert.deepEqual(open(request), ["ant/1.ppm", "bee/2.ppm"]);
    });

    it("is done without when that cannot be written either, and says so", () => {
      folder.write("blocked", "");
      const request = { path: "data/train.tar", indexFolder: "blocked/folder" };
      const { dataset, notKept } = index(request);
      assert.equal(dataset.count, 2);
      assert.match(notKept ?? "", /.+; .+/);
      assert.equal(indexes().length, 1, "a temporary file is left");
    });
  });
});
