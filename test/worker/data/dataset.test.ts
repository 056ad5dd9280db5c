import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, symlinkSync, utimesSync } from "node:fs";
import path from "node:path";
import type { DataRecipe } from "../../../proto/recipe.ts";
import {
  checkClasses,
  type Dataset,
  imageName,
  openDataset,
} from "../../../worker/data/dataset.ts";
import { decodeImage } from "../../../worker/data/decode.ts";
import { EntryReader } from "../../../worker/data/entry-reader.ts";
import {
  dataRecipe,
  type SampleFolder,
  sampleFolder,
  samplePicture,
  tarOf,
} from "./sample-data.ts";

type Split = DataRecipe["train"];

describe("data set", function () {
  // Each opening starts a thread.
  this.timeout(20_000);
  let folder: SampleFolder;
  beforeEach(() => {
    folder = sampleFolder();
  });
  afterEach(() => folder.remove());

  const open = (train: Split): Promise<Dataset> =>
    openDataset(dataRecipe(folder.path, train), "train");
  const refuses = async (train: Split, reason: RegExp): Promise<void> => {
    await assert.rejects(open(train), (error: Error & { code?: string }) => {
      assert.equal(error.code, "DATA_INVALID");
      assert.match(error.message, reason);
      return true;
    });
  };
  const picture = (name: string, number = 0): void => folder.write(name, samplePicture(number));

  describe("of class folders", () => {
    it("sorts classes and images by name, and leaves other files out", async () => {
      for (const name of ["train/cat/b.jpg", "train/cat/a.PNG", "train/ant/z.ppm"]) picture(name);
      picture("train/cat/deep/er/c.webp");
      picture("train/cat/.hidden.jpg");
      folder.write("train/cat/notes.txt", "");
      const dataset = await open({ path: "train" });
      assert.deepEqual(dataset.classes, ["ant", "cat"]);
      assert.deepEqual(names(dataset), [
        "ant/z.ppm",
        "cat/a.PNG",
        "cat/b.jpg",
        "cat/deep/er/c.webp",
      ]);
      assert.deepEqual([...dataset.labels], [0, 1, 1, 1]);
      assert.equal(imageName(dataset, 0), path.join(folder.path, "train/ant/z.ppm"));
    });

    it("counts an empty folder as a class, so that labels agree between the splits", async () => {
      picture("val/cat/1.jpg");
      folder.write("val/ant/readme.txt", "");
      const dataset = await open({ path: "val" });
      assert.deepEqual(dataset.classes, ["ant", "cat"]);
      assert.deepEqual([...dataset.labels], [1]);
    });

    it("follows symbolic links", async () => {
      picture("elsewhere/1.jpg");
      picture("train/ant/1.jpg");
      symlinkSync(path.join(folder.path, "elsewhere"), path.join(folder.path, "train/bee"));
      const dataset = await open({ path: "train" });
      assert.deepEqual(names(dataset), ["ant/1.jpg", "bee/1.jpg"]);
    });

    it("keeps a limited number of images, spread evenly", async () => {
      for (let i = 0; i < 10; i++) picture(`train/${i < 5 ? "ant" : "bee"}/${i}.jpg`);
      const dataset = await open({ path: "train", limit: 4 });
      // floor(i * 10 / 4) = 0, 2, 5, 7.
      assert.deepEqual(names(dataset), ["ant/0.jpg", "ant/2.jpg", "bee/5.jpg", "bee/7.jpg"]);
      assert.deepEqual([...dataset.labels], [0, 0, 1, 1]);
      assert.equal((await open({ path: "train", limit: 99 })).count, 10);
    });
  });

  it("of a folder of images has no labels", async () => {
    for (const name of ["photos/b.jpg", "photos/a.jpg", "photos/more/c.jpg"]) picture(name);
    const dataset = await open({ path: "photos" });
    assert.deepEqual(names(dataset), ["a.jpg", "b.jpg", "more/c.jpg"]);
    assert.deepEqual([...dataset.labels], [-1, -1, -1]);
    assert.deepEqual([dataset.classes, dataset.labelling], [[], "none"]);
  });

  describe("of an annotation list", () => {
    it("takes paths and labels from the list, in its order", async () => {
      picture("train/x/1.jpg");
      folder.write("meta/train.txt", "x/my photo.jpg 2\r\nx/1.jpg 0\n\n");
      const dataset = await open({ path: "train", annotations: "meta/train.txt" });
      assert.deepEqual(names(dataset), ["x/my photo.jpg", "x/1.jpg"]);
      assert.deepEqual([...dataset.labels], [2, 0]);
      assert.deepEqual([dataset.classes, dataset.labelling], [["0", "1", "2"], "numbers"]);
    });

    it("takes lines without label as images without label", async () => {
      picture("train/x/1.jpg");
      folder.write("list.txt", "x/1.jpg\nx/2.jpg\n");
      const dataset = await open({ path: "train", annotations: "list.txt" });
      assert.deepEqual([...dataset.labels], [-1, -1]);
      assert.equal(dataset.labelling, "none");
    });

    it("scans the folders when the list does not exist", async () => {
      picture("train/ant/1.jpg");
      const dataset = await open({ path: "train", annotations: "meta/train.txt" });
      assert.deepEqual(dataset.classes, ["ant"]);
    });

    it("refuses a number that no class has", async () => {
      folder.write("train/x", "");
      folder.write("list.txt", "x/1.jpg 0\nx/2.jpg 99999999999\n");
      await refuses(
        { path: "train", annotations: "list.txt" },
        /annotation list: "x\/2.jpg 99999999999" has a label of 1000000 or more/,
      );
    });

    it("refuses an empty list", async () => {
      picture("train/ant/1.jpg");
      folder.write("list.txt", "\n");
      await refuses({ path: "train", annotations: "list.txt" }, /annotation list is empty/);
    });
  });

  describe("of tar files", () => {
    const member = (name: string, number: number) => ({ name, contents: samplePicture(number) });

    it("is the same as of the unpacked folder", async () => {
      const members = ["cat/2.ppm", "ant/9.ppm", "cat/1.ppm"].map((name, i) => member(name, i));
      for (const { name, contents } of members) folder.write(`unpacked/${name}`, contents);
      const packed = members.map(({ name, contents }) => ({ name: `./train/${name}`, contents }));
      folder.write("train.tar", tarOf(packed));
      const [tar, files] = [await open({ path: "train.tar" }), await open({ path: "unpacked" })];
      assert.deepEqual(tar.classes, files.classes);
      assert.deepEqual([...tar.labels], [...files.labels]);
      assert.deepEqual(names(tar), names(files));
      const [inTar, inFiles] = [new EntryReader(tar), new EntryReader(files)];
      for (let i = 0; i < 3; i++) assert.deepEqual(inTar.read(i), inFiles.read(i));
      inTar.close();
      assert.equal(imageName(tar, 0), `${path.join(folder.path, "train.tar")}:ant/9.ppm`);
    });

    it("joins the shards that a pattern names", async () => {
      folder.write("shard-1.tar", tarOf([member("ant/1.ppm", 1)]));
      folder.write("shard-0.tar", tarOf([member("bee/0.ppm", 0), member("ant/2.ppm", 2)]));
      folder.write("other.tar", tarOf([member("cow/0.ppm", 0)]));
      const dataset = await open({ path: "shard-*.tar" });
      assert.deepEqual(names(dataset), ["ant/1.ppm", "ant/2.ppm", "bee/0.ppm"]);
      const reader = new EntryReader(dataset);
      assert.deepEqual(reader.read(1), samplePicture(2));
      assert.deepEqual(reader.read(2), samplePicture(0));
      reader.close();
    });

    it("has no labels when the images lie in one folder", async () => {
      folder.write("train.tar", tarOf([member("train/1.ppm", 1), member("train/2.ppm", 2)]));
      const dataset = await open({ path: "train.tar" });
      assert.deepEqual([...dataset.labels], [-1, -1]);
    });

    it("takes labels from an annotation list", async () => {
      folder.write("train.tar", tarOf([member("train/1.ppm", 1), member("train/2.ppm", 2)]));
      folder.write("list.txt", "train/2.ppm 1\ntrain/1.ppm 0\n");
      const dataset = await open({ path: "train.tar", annotations: "list.txt" });
      const reader = new EntryReader(dataset);
      assert.deepEqual([...dataset.labels], [1, 0]);
      assert.deepEqual(reader.read(0), samplePicture(2));
      reader.close();
      folder.write("list.txt", "train/3.ppm 1\n");
      await refuses({ path: "train.tar", annotations: "list.txt" }, /lacks train\/3.ppm/);
    });

    it("refuses an archive that is cut off, at once", async () => {
      const whole = tarOf([member("train/1.ppm", 1), member("train/2.ppm", 2)]);
      folder.write("train.tar", whole.subarray(0, 1700));
      await refuses({ path: "train.tar" }, /train.tar is truncated: train\/2.ppm needs 1909 bytes/);
    });

    it("refuses what is not there and what is no archive", async () => {
      await refuses({ path: "train.tar" }, /train.tar does not exist; expected a tar file/);
      await refuses({ path: "train-*.tar" }, /expected tar files of that name pattern/);
      await refuses({ path: "*-*.tar" }, /may have one \*/);
      folder.write("train.tar", "x".repeat(2048));
      await refuses({ path: "train.tar" }, /is not a tar archive, or damaged, at byte 0/);
    });
  });

  it("keeps the index of a large one, also when several make it at once", async () => {
    const contents = Buffer.alloc(0);
    const write = (extension: string): void => {
      const members = Array.from({ length: 10_000 }, (_, i) => ({
        name: `${i % 10}/${i}.${extension}`,
        contents,
      }));
      folder.write("train.tar", tarOf(members));
      utimesSync(path.join(folder.path, "train.tar"), 1e9, 1e9);
    };
    write("jpg");
    const opened = await Promise.all([1, 2, 3].map(() => open({ path: "train.tar" })));
    // As long as before and of the same time: only the archive itself can tell.
    write("png");
    for (const dataset of [...opened, await open({ path: "train.tar" })]) {
      assert.equal(dataset.count, 10_000);
      assert.equal(imageName(dataset, 9_999), path.join(folder.path, "train.tar:9/9999.jpg"));
    }
    assert.deepEqual(readdirSync(folder.path).length, 2);
  });

  it("gives images of every kind to the decoder, from folders and tar files", async () => {
    const fixtures = "test/fixtures/data/decode";
    const expected = JSON.parse(readFileSync(`${fixtures}/expected.json`, "utf8"));
    const kinds = ["cmyk.jpg", "exif6.jpg", "gray.jpg", "prog.jpg", "pal.png", "lossy.webp"];
    const members = kinds.map((name) => ({
      name: `train/${name.replace(/.*\./, "")}/${name}`,
      contents: readFileSync(`${fixtures}/${name}`),
    }));
    for (const { name, contents } of members) folder.write(name, contents);
    folder.write("train.tar", tarOf(members));
    for (const dataset of [await open({ path: "train" }), await open({ path: "train.tar" })]) {
      assert.deepEqual(dataset.classes, ["jpg", "png", "webp"]);
      const reader = new EntryReader(dataset);
      for (const [i, name] of names(dataset).entries()) {
        const { width, height, data } = await decodeImage(reader.read(i));
        const sha256 = createHash("sha256").update(data).digest("hex");
        assert.deepEqual({ width, height, sha256 }, expected[path.basename(name)], name);
      }
      reader.close();
      assert.equal(dataset.count, kinds.length);
    }
  });

  it("is not waited for when nobody wants it any more", async () => {
    picture("train/ant/1.jpg");
    const recipe = dataRecipe(folder.path, { path: "train" });
    const reason = new Error("the experiment was cancelled");
    const abort = new AbortController();
    const opening = openDataset(recipe, "train", { signal: abort.signal });
    abort.abort(reason);
    await assert.rejects(opening, reason);
    await assert.rejects(openDataset(recipe, "train", { signal: abort.signal }), reason);
  });

  it("is refused when there is nothing to read", async () => {
    await refuses({ path: "train" }, /data.train: .*train does not exist; expected a folder of/);
    folder.write("train", "");
    await refuses({ path: "train" }, /is not a folder/);
    folder.write("empty/ant/notes.txt", "");
    await refuses({ path: "empty" }, /holds no images; expected files named .jpg/);
  });

  it("crosses threads without copying what is large", async () => {
    picture("train/ant/1.jpg");
    const dataset = await open({ path: "train" });
    const clone = structuredClone(dataset);
    clone.labels[0] = 7;
    assert.equal(dataset.labels[0], 7);
    assert.equal(imageName(clone, 0), imageName(dataset, 0));
  });

  describe("checked for linear evaluation", () => {
    const splits = async (): Promise<[Dataset, Dataset]> => {
      const recipe = dataRecipe(folder.path, { path: "train" }, { path: "val" });
      return [await openDataset(recipe, "train"), await openDataset(recipe, "val")];
    };
    const disagrees = async (classes: number, reason: RegExp): Promise<void> => {
      const [train, val] = await splits();
      assert.throws(() => checkClasses(train, val, classes), {
        code: "DATA_INVALID",
        message: reason,
      });
    };

    it("fits when both splits have the recipe's classes", async () => {
      for (const split of ["train", "val"]) {
        for (const name of ["ant", "bee"]) picture(`${split}/${name}/1.jpg`);
      }
      const [train, val] = await splits();
      checkClasses(train, val, 2);
      await disagrees(3, /train has 2 classes, the recipe has 3/);
    });

    it("does not fit when a label means two things", async () => {
      for (const name of ["train/ant", "train/bee", "val/ant", "val/cow"]) picture(`${name}/1.jpg`);
      await disagrees(2, /cow is missing there or has another number/);
    });

    it("does not fit without labels", async () => {
      for (const name of ["train/ant/1.jpg", "val/1.jpg"]) picture(name);
      await disagrees(1, /data.val: .* has images without label; expected a folder per class/);
    });
  });
});

function names(dataset: Dataset): string[] {
  return Array.from({ length: dataset.count }, (_, i) => {
    const name = imageName(dataset, i);
    return name.slice(dataset.location.length + 1);
  });
}
