/** Predictions and features of real image files, against float64 arithmetic. */

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { decodeImage } from "../../../worker/data/decode.ts";
import { extractFeatures, streamFeatures } from "../../../worker/inference/extract-features.ts";
import { getModel } from "../../../worker/inference/get-model.ts";
import { inferenceModel } from "../../../worker/inference/inference-model.ts";
import type { OpenModel } from "../../../worker/inference/open-model.ts";
import { sampleFolder, samplePicture } from "../data/sample-data.ts";
import {
  referenceEmbedding,
  referenceFeatures,
  referenceScores,
  TINY_CLASSES,
  tinyState,
  writeTiny,
} from "./tiny-weights.ts";

/** Of float32 against float64, for values around 1. */
const TOLERANCE = 1e-5;
const ENGINE = { engine: "tfjs:wasm" };

function assertClose(found: ArrayLike<number>, expected: ArrayLike<number>): void {
  assert.equal(found.length, expected.length);
  for (let k = 0; k < expected.length; k++) {
    const difference = Math.abs(found[k]! - expected[k]!);
    assert.ok(difference < TOLERANCE, `[${k}] is ${found[k]}, not ${expected[k]}`);
  }
}

describe("open model", function () {
  this.timeout(20_000);
  const folder = sampleFolder();
  const pictures = ["b.ppm", "a/d.ppm", "a/c/e.ppm", "a/c.ppm"];
  const file = path.join(folder.path, "photos/b.ppm");
  const [pretrained, linear] = [tinyState("pretrain"), tinyState("linear")];
  let backbone: OpenModel;
  let classifier: OpenModel;

  before("opens both kinds on one engine", async () => {
    for (const [number, name] of pictures.entries()) {
      folder.write(`photos/${name}`, samplePicture(number));
    }
    folder.write("photos/.hidden.ppm", samplePicture(9));
    folder.write("photos/notes.txt", "no image");
    const classes = JSON.stringify(["red", "green", "blue"]);
    backbone = await getModel(writeTiny(folder, "simclr.safetensors", pretrained), ENGINE);
    classifier = await getModel(
      writeTiny(folder, "linear.safetensors", linear, { classes }),
      ENGINE,
    );
  });
  after(() => {
    backbone.close();
    classifier.close();
    folder.remove();
  });

  it("has the features that float64 has", async () => {
    const expected = await referenceFeatures(pretrained, file);
    assertClose(await extractFeatures(backbone, file), expected);
    assert.equal(expected.length, backbone.widths.features);
    assert.ok(expected.some((value) => value > 0.1));
  });

  it("has the neck's embeddings that float64 has", async () => {
    const expected = referenceEmbedding(pretrained, await referenceFeatures(pretrained, file));
    assertClose(await extractFeatures(backbone, file, { stage: "neck" }), expected);
  });

  it("has the scores that float64 has, and names the best class", async () => {
    const expected = referenceScores(linear, await referenceFeatures(linear, file));
    const { pred_scores, pred_label, pred_score, pred_class } = await inferenceModel(
      classifier,
      file,
    );
    assertClose(pred_scores, expected);
    assert.equal(pred_label, expected.indexOf(Math.max(...expected)));
    assert.equal(pred_score, pred_scores[pred_label]);
    assert.equal(pred_class, ["red", "green", "blue"][pred_label]);
  });

  it("takes the average pool for the neck of a linear model", async () => {
    assert.deepEqual(
      await extractFeatures(classifier, file, { stage: "neck" }),
      await extractFeatures(classifier, file),
    );
  });

  it("takes a path, a file's bytes and decoded pixels for the same image", async () => {
    const bytes = readFileSync(file);
    const forms = [file, bytes, await decodeImage(bytes)];
    const [ofPath, ofBytes, ofPixels] = await extractFeatures(backbone, forms);
    assert.deepEqual(ofBytes, ofPath);
    assert.deepEqual(ofPixels, ofPath);
  });

  it("goes through folders in order, and a batch changes nothing", async () => {
    const images = [path.join(folder.path, "photos")];
    const names: string[] = [];
    const singly: Float32Array[] = [];
    for await (const outcome of streamFeatures(backbone, images, { batchSize: 1 })) {
      assert.equal(outcome.type, "done");
      names.push(path.relative(images[0]!, outcome.image));
      singly.push(outcome.value);
    }
    assert.deepEqual(names, ["a/c.ppm", "a/c/e.ppm", "a/d.ppm", "b.ppm"]);
    const batched = await extractFeatures(backbone, images, { batchSize: 3 });
    for (const [row, features] of singly.entries()) assertClose(batched[row]!, features);
    assert.notDeepEqual(singly[0], singly[1]);
  });

  it("names an image that cannot be read, and goes on", async () => {
    folder.write("broken.png", "not a picture");
    const broken = path.join(folder.path, "broken.png");
    const cut = { width: 2, height: 2, data: new Uint8Array(11) };
    const outcomes = [];
    const empty = path.join(folder.path, "empty");
    mkdirSync(empty);
    const images = [broken, file, "none.jpg", cut, empty];
    for await (const outcome of streamFeatures(backbone, images)) {
      outcomes.push(outcome.type === "done" ? "done" : outcome.error.message);
    }
    assert.deepEqual(outcomes, [
      `${broken} is not a JPEG, PNG, WebP, TIFF, BMP or PNM image`,
      "done",
      "none.jpg does not exist",
      "image 4 has 11 bytes, not 2 x 2 x 3",
      `${empty} holds no images`,
    ]);
    await assert.rejects(extractFeatures(backbone, [file, broken]), {
      code: "DATA_INVALID",
      message: /broken\.png is not/,
    });
  });

  it("refuses what it cannot answer", async () => {
    const usage = (message: RegExp) => ({ code: "USAGE", message });
    await assert.rejects(inferenceModel(backbone, file), usage(/has no classifier/));
    await assert.rejects(
      inferenceModel(classifier, folder.path),
      usage(/is a folder; pass a list, \[folder\]/),
    );
    await assert.rejects(
      extractFeatures(backbone, [file], { batchSize: 0 }),
      usage(/batch size must be a whole number, not 0/),
    );
    const bare = { ...pretrained, tensors: new Map(pretrained.tensors) };
    for (const name of bare.tensors.keys()) {
      if (name.startsWith("neck.")) bare.tensors.delete(name);
    }
    const model = await getModel(writeTiny(folder, "bare.safetensors", bare), ENGINE);
    await assert.rejects(
      extractFeatures(model, file, { stage: "neck" }),
      usage(/has no projection neck/),
    );
    await model[Symbol.asyncDispose]();
  });

  it("shares one engine, and refuses a second one beside it", async () => {
    await assert.rejects(getModel("demo", { ...ENGINE, threads: 2 }), {
      code: "STATE_CONFLICT",
      message: /models are open that compute with tfjs:wasm and 1 thread,/,
    });
    await assert.rejects(getModel("demo", { threads: 0 }), { code: "USAGE" });
  });

  it("opens a model for one call by its path", async () => {
    const scores = (
      await inferenceModel(path.join(folder.path, "linear.safetensors"), file, ENGINE)
    ).pred_scores;
    assert.deepEqual(scores, (await inferenceModel(classifier, file)).pred_scores);
    assert.equal(scores.length, TINY_CLASSES);
  });
});
