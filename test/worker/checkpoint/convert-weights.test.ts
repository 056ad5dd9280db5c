import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { inputOf } from "../../../proto/model/input-view.ts";
import { parseRecipe } from "../../../proto/recipe.ts";
import { findRecipe } from "../../../proto/recipes/registry.ts";
import { convertWeights } from "../../../worker/checkpoint/convert-weights.ts";
import { readModelNote } from "../../../worker/checkpoint/model-note.ts";
import { readWeights } from "../../../worker/checkpoint/read-weights.ts";
import { decodeSafetensors } from "../../../worker/checkpoint/safetensors.ts";
import { writeWeights } from "../../../worker/checkpoint/write-weights.ts";
import { fixture } from "./torch/saved-files.ts";

const TRAINING = fixture("training.pth");
const plain = { style: "mmpretrain", publish: false, overwrite: false, model: undefined } as const;

describe("convertWeights", () => {
  let dir: string;
  beforeEach(() => {
    dir = mkdtempSync(path.join(os.tmpdir(), "convert-"));
  });
  afterEach(() => rmSync(dir, { recursive: true, force: true }));
  const at = (name: string): string => path.join(dir, name);

  for (const name of ["copy.pth", "copy.safetensors"]) {
    it(`keeps every tensor, the counts and the classes in ${path.extname(name)}`, () => {
      const { output, match } = convertWeights(TRAINING, at(name), plain);
      assert.equal(match.matched.length, 110);
      assert.deepEqual([match.missing, match.unexpected, match.misshapen], [[], [], []]);
      assert.equal(output.bytes, readFileSync(at(name)).length);

      const [original, copy] = [readWeights(TRAINING), readWeights(at(name))];
      assert.deepEqual([...copy.tensors], [...original.tensors]);
      assert.equal(copy.batchesTracked, 313);
      assert.deepEqual(copy.classes, ["cat", "dog"]);
      assert.equal(Number(copy.metadata["epoch"]), 10);
      assert.equal(copy.metadata["experiment_name"], "simclr_tiny");
    });
  }

  for (const name of ["own.pth", "own.safetensors"]) {
    it(`keeps how images become the model's input in ${path.extname(name)}`, () => {
      const { tensors, ...origin } = readWeights(TRAINING);
      const recipe = parseRecipe(findRecipe("demo"));
      const own = { model: recipe.model, imageInput: inputOf(recipe) };
      writeWeights(at(`first-${name}`), tensors, { ...origin, ...own }, plain);
      convertWeights(at(`first-${name}`), at(name), plain);
      const { model, imageInput } = readWeights(at(name));
      assert.deepEqual({ model, imageInput }, own);
    });
  }

  it("takes a damaged note about the model for none", () => {
    for (const note of ["{", "[]", '{"model":{"depth":19}}', '{"later":1}', undefined, 7]) {
      assert.deepEqual(readModelNote(note), {}, String(note));
    }
  });

  it("tells what the file holds", () => {
    const { input, model, hasNeck, outputs } = convertWeights(TRAINING, at("copy.pth"), plain);
    assert.equal(input.tensors, 110);
    assert.deepEqual(
      [model.depth, model.width, model.stem, model.neck],
      [18, 1 / 32, "imagenet", { out: 8 }],
    );
    assert.deepEqual([hasNeck, outputs], [true, undefined]);
  });

  it("gives the same bytes for the same weights", () => {
    const [a, b] = ["a.pth", "b.pth"].map((name) => convertWeights(TRAINING, at(name), plain));
    assert.equal(a?.output.sha256, b?.output.sha256);
  });

  it("begins every tensor of a .pth at a multiple of 64 bytes", () => {
    convertWeights(TRAINING, at("copy.pth"), plain);
    const bytes = readFileSync(at("copy.pth"));
    const { data } = readWeights(TRAINING).tensors.get("backbone.conv1.weight")!;
    assert.equal(bytes.indexOf(Buffer.from(data.buffer)) % 64, 0);
  });

  it("writes num_batches_tracked behind each running variance, as PyTorch orders it", () => {
    convertWeights(TRAINING, at("copy.safetensors"), plain);
    const { tensors } = decodeSafetensors(readFileSync(at("copy.safetensors")));
    assert.deepEqual([...tensors.keys()].slice(3, 6), [
      "backbone.bn1.running_mean",
      "backbone.bn1.running_var",
      "backbone.bn1.num_batches_tracked",
    ]);
    assert.equal(tensors.size, 132);
  });

  it("leaves out what a style has no place for, and says so", () => {
    const bare = convertWeights(TRAINING, at("bare.pth"), { ...plain, style: "backbone" });
    assert.equal(bare.output.leftOut.length, 12);
    const { style, tensors } = readWeights(at("bare.pth"));
    assert.equal(style, "bare");
    assert.equal(tensors.size, 100);
  });

  it("leaves out what is no part of the model, and says so", () => {
    const { tensors, ...origin } = readWeights(TRAINING);
    const more = new Map([...tensors, ["ema.bias", { shape: [1], data: Float32Array.of(1) }]]);
    writeWeights(at("more.pth"), more, origin, plain);
    const { match } = convertWeights(at("more.pth"), at("copy.pth"), plain);
    assert.deepEqual(match.unexpected, ["ema.bias"]);
    assert.equal(readWeights(at("copy.pth")).tensors.size, 110);
  });

  it("puts the SHA-256 of a published file into its name", () => {
    const { output } = convertWeights(TRAINING, at("copy.pth"), { ...plain, publish: true });
    assert.deepEqual(readdirSync(dir), [`copy-${output.sha256.slice(0, 8)}.pth`]);
    assert.equal(readWeights(output.path).tensors.size, 110);
  });

  const refuses = (
    output: string,
    options: Partial<Parameters<typeof convertWeights>[2]>,
    expected: { readonly code: string; readonly message: RegExp },
  ): void => {
    const before = readdirSync(dir);
    assert.throws(() => convertWeights(TRAINING, at(output), { ...plain, ...options }), expected);
    assert.deepEqual(readdirSync(dir), before, "nothing is left behind");
  };

  it("keeps a file that is there, unless told to overwrite it", () => {
    writeFileSync(at("copy.pth"), "mine");
    refuses("copy.pth", {}, { code: "USAGE", message: /copy\.pth exists already; --force/ });
    convertWeights(TRAINING, at("copy.pth"), { ...plain, overwrite: true });
    assert.equal(readWeights(at("copy.pth")).tensors.size, 110);
  });

  it("refuses an ending that it cannot write", () =>
    refuses("copy.onnx", {}, { code: "USAGE", message: /must end in \.pth or \.safetensors/ }));

  it("refuses a name that promises another SHA-256", () =>
    refuses("copy-12345678.pth", {}, { code: "USAGE", message: /promises a SHA-256 of 12345678/ }));

  it("refuses a folder that is not there", () =>
    refuses("no/copy.pth", {}, { code: "STORAGE_FAILED", message: /there is no folder .*no$/ }));

  it("refuses a backbone of another model, counts what is wrong, and says what it has", () => {
    const { model } = parseRecipe(findRecipe("simclr_resnet50_8xb32-coslr-200e_in1k"));
    refuses(
      "copy.pth",
      { model },
      {
        code: "CHECKPOINT_INVALID",
        message: new RegExp(
          "training\\.pth: its backbone does not fit: 165 tensors are missing and 100 misshapen; " +
            "the file has a ResNet-18 of width 0\\.03125, the recipe wants a ResNet-50 " +
            "\\(.* more\\)$",
        ),
      },
    );
  });
});
