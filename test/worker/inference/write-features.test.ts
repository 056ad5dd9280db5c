import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { decodeSafetensors } from "../../../worker/checkpoint/safetensors.ts";
import { writeFeatures } from "../../../worker/inference/write-features.ts";
import { sampleFolder } from "../data/sample-data.ts";

const TABLE = {
  images: ["a.jpg", "b.jpg"],
  rows: [Float32Array.of(1, 2, 3), Float32Array.of(4, 5, 0.5)],
};

describe("feature file", () => {
  const folder = sampleFolder();
  after(() => folder.remove());
  const written = (name: string): Buffer => {
    writeFeatures(path.join(folder.path, name), TABLE);
    return readFileSync(path.join(folder.path, name));
  };

  it("is NumPy's", () => {
    const bytes = written("f.npy");
    assert.equal(bytes.toString("latin1", 0, 8), "\x93NUMPY\x01\x00");
    const begin = 10 + bytes.readUInt16LE(8);
    assert.equal(begin % 64, 0);
    assert.match(
      bytes.toString("latin1", 10, begin),
      /^\{'descr': '<f4', 'fortran_order': False, 'shape': \(2, 3\), \} *\n$/,
    );
    const values = Array.from({ length: 6 }, (_, k) => bytes.readFloatLE(begin + 4 * k));
    assert.deepEqual(values, [1, 2, 3, 4, 5, 0.5]);
    assert.equal(bytes.length, begin + 24);
  });

  it("is of safetensors, with the images' names", () => {
    const { tensors, metadata } = decodeSafetensors(written("f.safetensors"));
    assert.deepEqual(tensors.get("features")?.shape, [2, 3]);
    assert.deepEqual([...tensors.get("features")!.data], [1, 2, 3, 4, 5, 0.5]);
    assert.deepEqual(JSON.parse(metadata["images"]!), TABLE.images);
  });

  it("is JSON", () => {
    assert.deepEqual(JSON.parse(written("f.json").toString()), [
      { image: "a.jpg", features: [1, 2, 3] },
      { image: "b.jpg", features: [4, 5, 0.5] },
    ]);
  });

  it("is refused under another name, or where there is no folder", () => {
    const write = (name: string) => () => writeFeatures(path.join(folder.path, name), TABLE);
    assert.throws(write("f.csv"), { code: "USAGE", message: /must end in one of \.npy/ });
    assert.throws(write("no/f.npy"), { code: "STORAGE_FAILED", message: /there is no folder/ });
  });
});
