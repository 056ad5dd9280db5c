import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import os from "node:os";
import path from "node:path";
import fc from "fast-check";
import { FleetError } from "../../../proto/errors.ts";
import { saveCheckpoint } from "../../../worker/checkpoint/checkpoint-store.ts";
import { readWeights } from "../../../worker/checkpoint/read-weights.ts";
import { encodeSafetensors } from "../../../worker/checkpoint/safetensors.ts";
import { fixture, pickleIn, pickleOf, savedFile, text } from "./torch/saved-files.ts";

/** Replaces the first `from` by `to`, both Latin-1. */
function swap(from: string, to: string): (bytes: Buffer) => Buffer {
  return (bytes) => Buffer.from(bytes.toString("latin1").replace(from, to), "latin1");
}

describe("readWeights", () => {
  let dir: string;
  before(() => {
    dir = mkdtempSync(path.join(os.tmpdir(), "weights-"));
  });
  after(() => rmSync(dir, { recursive: true, force: true }));
  const write = (name: string, bytes: Uint8Array): string => {
    const file = path.join(dir, name);
    writeFileSync(file, bytes);
    return file;
  };
  const refuses = (file: string, message: RegExp, code = "CHECKPOINT_INVALID"): void =>
    assert.throws(() => readWeights(file), { code, message });

  describe("of a training checkpoint that PyTorch wrote", () => {
    it("takes the model by its names, and what the run says of itself", () => {
      const { tensors, ...rest } = readWeights(fixture("training.pth"));
      assert.deepEqual(rest, {
        format: "torch",
        style: "mmpretrain",
        batchesTracked: 313,
        classes: ["cat", "dog"],
        metadata: { epoch: 10, iter: 3130, seed: 7, experiment_name: "simclr_tiny" },
      });
      assert.equal(tensors.size, 110);
      assert.deepEqual(tensors.get("backbone.conv1.weight")?.shape, [2, 3, 7, 7]);
      assert.deepEqual([...tensors.keys()].slice(-2), [
        "neck.bn1.running_mean",
        "neck.bn1.running_var",
      ]);
    });
  });

  it("reads every type of element, and views, transposes and strides of shared ones", () => {
    const { tensors } = readWeights(fixture("elements.pth"));
    const values = Object.fromEntries(
      [...tensors].map(([name, { shape, data }]) => [name, [shape, [...data]]]),
    );
    const count = Array.from({ length: 24 }, (_, k) => k);
    assert.deepEqual(values, {
      f32: [[2], [1.5, -2.25]],
      f64: [[2], [Math.fround(0.1), Infinity]],
      f16: [[5], [1, -2, 2 ** -24, 65504, Infinity]],
      bf16: [[2], [1, -3.140625]],
      i64: [[2], [-1, 2 ** 40]],
      i32: [[2], [-7, 7]],
      u8: [[2], [0, 255]],
      bool: [[2], [1, 0]],
      scalar: [[], [4.5]],
      empty: [[0, 3], []],
      whole: [[4, 6], count],
      rows: [[2, 6], count.slice(6, 18)],
      transposed: [[6, 4], count.map((k) => 6 * (k % 4) + Math.floor(k / 4))],
      stepped: [
        [2, 3],
        [1, 3, 5, 13, 15, 17],
      ],
      channels_last: [[2, 3, 2, 2], count],
      parameter: [[1], [3]],
    });
  });

  it("reads .safetensors with the names of the classes", () => {
    const tensors = new Map([
      ["fc.weight", { dtype: "F32", shape: [1], data: Float32Array.of(2) }],
      ["bn1.num_batches_tracked", { dtype: "I64", shape: [], data: BigInt64Array.of(5n) }],
    ] as const);
    const metadata = { format: "pt", classes: '["cat","dog"]' };
    assert.deepEqual(readWeights(write("tv.safetensors", encodeSafetensors(tensors, metadata))), {
      format: "safetensors",
      style: "torchvision",
      batchesTracked: 5,
      classes: ["cat", "dog"],
      metadata: { format: "pt" },
      tensors: new Map([["head.fc.weight", { shape: [1], data: Float32Array.of(2) }]]),
    });
  });

  it("reads a checkpoint folder of ours", () => {
    const model = new Map([["backbone.bn1.running_var", { shape: [1], data: Float32Array.of(3) }]]);
    const { folder } = saveCheckpoint(
      path.join(dir, "checkpoints"),
      {
        model,
        optimizer: new Map(),
        manifest: {
          format: "simclr-fleet/checkpoint/1",
          experimentId: "e1",
          recipe: "demo",
          stage: "linear",
          step: 12,
          epoch: 1.5,
          seed: 7,
          worldSize: 1,
          generation: 1,
          batchesTracked: 12,
          scalars: {},
          classes: ["cat"],
          createdAt: "2026-01-02T03:04:05.000Z",
        },
      },
      3,
    );
    assert.deepEqual(readWeights(folder), {
      format: "checkpoint",
      style: "mmpretrain",
      tensors: model,
      batchesTracked: 12,
      classes: ["cat"],
      metadata: { recipe: "demo", stage: "linear", step: 12, epoch: 1.5 },
    });
  });

  describe("checks the SHA-256 that a published name promises", () => {
    const source = fixture("training.pth");
    const sha256 = createHash("sha256").update(readFileSync(source)).digest("hex");
    const copy = (name: string): string => {
      copyFileSync(source, path.join(dir, name));
      return path.join(dir, name);
    };
    it("and reads the file that keeps it", () => {
      assert.equal(
        readWeights(copy(`simclr_20260101-${sha256.slice(0, 8)}.pth`)).tensors.size,
        110,
      );
    });
    it("and refuses the one that does not", () =>
      refuses(copy("simclr_20260101-4d9cce50.pth"), /promises a SHA-256 of 4d9cce50..., it is/));
  });

  describe("of the format of PyTorch before 1.6", () => {
    const original = readFileSync(fixture("legacy.pth"));
    it("reads the same", () => {
      assert.deepEqual(readWeights(fixture("legacy.pth")), readWeights(fixture("elements.pth")));
    });
    for (const [what, change, reason] of [
      ["its end", (bytes: Buffer) => bytes.subarray(0, -1), /cut off: it has \d+ bytes, not/],
      ["all elements", (bytes: Buffer) => bytes.subarray(0, 1500), /cut off or damaged/],
      ["its little-endian numbers", swap("little_endian", "littleXendian"), /byte order/],
      ["its version", swap("M\xe9\x03", "M\xea\x03"), /unknown version/],
      ["its magic number", swap("\x8a\x0al", "\x8a\x0am"), /bare pickle/],
      ["a known type", swap("torch\nFloatStorage", "torch\nQuintStorage"), /type QuintStorage/],
    ] as const) {
      it(`refuses one without ${what}`, () =>
        refuses(write("legacy.pth", change(Buffer.from(original))), reason));
    }
  });

  it("refuses a file that would run a command, and runs nothing", () => {
    refuses(fixture("attack.pth"), /names posix\.system.*Nothing of it was run/);
    assert.ok(!existsSync("attack-marker"));
  });

  it("says that there is no such file", () =>
    refuses(path.join(dir, "absent.pth"), /absent\.pth: no such file/, "NOT_FOUND"));

  const hostile = (pickle: Buffer, others: Record<string, Uint8Array> = {}): string =>
    write("hostile.pth", savedFile(pickle, others));
  /** A state_dict of one tensor named w, of a storage of 2 floats unless said otherwise. */
  const oneTensor = (window: string, storage = "FloatStorage", elements = "K\x02"): Buffer =>
    pickleOf(
      ...["}", text("w"), "ctorch._utils\n_rebuild_tensor_v2\n((", text("storage")],
      ...[`ctorch\n${storage}\n`, text("0"), text("cpu"), elements, "tQ", window],
      ...["\x89ccollections\nOrderedDict\n)RtRs."],
    );
  const data = { "data/0": new Uint8Array(Float32Array.of(1, 2).buffer) };

  const whole = "K\x00K\x02\x85K\x01\x85";
  const none: Record<string, Uint8Array> = {};
  for (const [what, pickle, others, reason] of [
    ["a number", pickleOf("K\x01."), none, /neither a dict/],
    ["a pickled model", pickleOf("cnet\nModel\n)\x81."), none, /object of net\.Model.*state_dict/],
    ["a dict without tensors", pickleOf("}", text("a"), "K\x01s."), none, /its keys are a$/],
    [
      "tensors of a kind that is unknown",
      pickleOf("}", text("w"), "ctorch._utils\n_rebuild_qtensor\n)Rs."),
      none,
      /w is a torch\._utils\._rebuild_qtensor/,
    ],
    ["TorchScript", pickleOf("}."), { "constants.pkl": new Uint8Array(1) }, /TorchScript/],
    ["big-endian numbers", pickleOf("}."), { byteorder: Buffer.from("big") }, /is "big"/],
    ["a storage that is absent", oneTensor(whole), none, /no "archive\/data\/0"/],
    [
      "a storage of another size",
      oneTensor(whole, "FloatStorage", "K\x03"),
      data,
      /3 of F32 are 12 bytes, not 8/,
    ],
    [
      "a storage of an unknown type",
      oneTensor(whole, "QInt8Storage"),
      data,
      /w is of type QInt8Storage/,
    ],
    ["a tensor beyond its storage", oneTensor("K\x01K\x02\x85K\x01\x85"), data, /not fit into 2/],
    [
      "a tensor that is its storage many times over",
      oneTensor("K\x00J\x00\x00\x00\x7f\x85K\x00\x85"),
      data,
      /not fit into 2/,
    ],
    [
      "a tensor with too few strides",
      oneTensor("K\x00K\x01K\x02\x86K\x01\x85"),
      data,
      /not fit into 2/,
    ],
  ] as const) {
    it(`refuses ${what}`, () => refuses(hostile(pickle, others), reason));
  }

  it("refuses names without end for the same elements, before they fill the memory", () => {
    const many = Array.from({ length: 3000 }, (_, k) => `${text(`w${k}`)}h\x00s`).join("");
    const pickle = oneTensor("K\x00M\xe8\x03\x85K\x01\x85", "FloatStorage", "M\xe8\x03");
    const shared = pickle.toString("latin1").replace(/s\.$/, `q\x00s${many}.`);
    const others = { "data/0": new Uint8Array(4000) };
    refuses(hostile(Buffer.from(shared, "latin1"), others), /more elements than it has bytes/);
  });

  it("gives what was saved or refuses, whatever bytes are changed or cut off", function () {
    this.timeout(30_000);
    for (const name of ["elements.pth", "training.pth"]) {
      const whole = readWeights(fixture(name));
      const original = readFileSync(fixture(name));
      const place = fc.nat({ max: original.length - 1 });
      const damage = fc.oneof(
        fc.array(fc.tuple(place, fc.nat({ max: 255 })), { minLength: 1, maxLength: 3 }),
        place,
      );
      const property = fc.property(damage, (chosen) => {
        const bytes = Buffer.from(
          typeof chosen === "number" ? original.subarray(0, chosen) : original,
        );
        if (typeof chosen !== "number") for (const [at, byte] of chosen) bytes[at] = byte;
        const file = write("damaged.pth", bytes);
        try {
          assert.deepEqual(readWeights(file), whole);
        } catch (thrown) {
          assert.ok(thrown instanceof FleetError, `${thrown}`);
          assert.equal(thrown.code, "CHECKPOINT_INVALID");
        }
      });
      fc.assert(property, { numRuns: 200 });
    }
  });

  it("reads or refuses a file without checksums, whatever bytes are changed", function () {
    this.timeout(30_000);
    const original = readFileSync(fixture("legacy.pth"));
    const change = fc.tuple(fc.nat({ max: original.length - 1 }), fc.nat({ max: 255 }));
    const property = fc.property(fc.array(change, { minLength: 1, maxLength: 3 }), (changes) => {
      const bytes = Buffer.from(original);
      for (const [at, byte] of changes) bytes[at] = byte;
      const file = write("damaged.pth", bytes);
      try {
        readWeights(file);
      } catch (thrown) {
        assert.ok(thrown instanceof FleetError, `${thrown}`);
        assert.equal(thrown.code, "CHECKPOINT_INVALID");
      }
    });
    fc.assert(property, { numRuns: 300 });
  });

  it("gives tensors or refuses, whatever a pickle with a right checksum says", function () {
    this.timeout(30_000);
    const original = pickleIn("elements.pth");
    const change = fc.tuple(fc.nat({ max: original.length - 1 }), fc.nat({ max: 255 }));
    const property = fc.property(fc.array(change, { maxLength: 3 }), (changes) => {
      const pickle = Buffer.from(original);
      for (const [at, byte] of changes) pickle[at] = byte;
      const file = hostile(pickle, { "data/0": new Uint8Array(8), "data/10": new Uint8Array(96) });
      assert.throws(() => readWeights(file), { code: "CHECKPOINT_INVALID" });
    });
    fc.assert(property, { numRuns: 300 });
  });

  it("keeps a folder that is no checkpoint apart from a file", () => {
    mkdirSync(path.join(dir, "empty"));
    refuses(path.join(dir, "empty"), /empty has no manifest\.json/);
  });
});
