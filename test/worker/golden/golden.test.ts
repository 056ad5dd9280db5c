import assert from "node:assert/strict";
import path from "node:path";
import type { Engine } from "../../../worker/engine/engine.ts";
import { openEngine } from "../../../worker/engine/open-engine.ts";
import { Deviations, isWithin } from "../../../worker/golden/deviations.ts";
import { type GoldenCase, listCases, readCase } from "../../../worker/golden/golden-folder.ts";
import { deviationsOf, runCase } from "../../../worker/golden/run-case.ts";
import type { EngineUnderTest } from "../../../worker/golden/run-model-case.ts";

const FOLDER = path.join(process.cwd(), "test/fixtures/golden");

const ENGINES = [
  { name: "tfjs:wasm", precision: "f32" },
  { name: "onednn", precision: "f32" },
  { name: "onednn", precision: "bf16" },
] as const;

for (const { name, precision } of ENGINES)
  describe(`reference cases on ${name} in ${precision}`, function () {
    // Models train several times, with noise, where one run cannot tell rounding from an error.
    this.timeout(300_000);

    let engine: Engine;
    before(async () => {
      engine = (await openEngine(name, { threads: 1, precision })).engine;
    });
    after(() => engine.close());

    for (const golden of listCases(FOLDER)) {
      it(`pass, and free their tensors: ${golden}`, () => {
        const before = engine.memory().tensors;
        const { passed, line } = runCase({ engine, precision }, FOLDER, golden);
        assert.ok(passed, line);
        assert.equal(engine.memory().tensors, before);
      });
    }
  });

describe("reference cases", function () {
  this.timeout(60_000);

  let tested: EngineUnderTest;
  before(async () => {
    const options = { threads: 1, precision: "f32" } as const;
    tested = { ...options, engine: (await openEngine("onednn", options)).engine };
  });
  after(() => tested.engine.close());

  it("are all there", () => {
    assert.deepEqual(listCases(FOLDER), [
      "augment",
      "ntxent-16x8",
      "ntxent-hot",
      "ntxent-small",
      "resnet18-cifar-32px",
      "resnet18-quarter-16px",
      "resnet50-imagenet-64px",
      "schedules",
    ]);
  });

  it("fail where a value of theirs is changed by more than rounding explains", () => {
    const golden = readCase(FOLDER, "resnet18-quarter-16px");
    assert.equal(golden.kind, "model");
    const [first] = golden.spec.steps;
    assert.ok(first);
    const fc0 = "neck.fc0.weight";
    const bn1 = "backbone.layer1.0.bn1";
    const scaled = (values: Readonly<Record<string, number>>, name: string, by: number) => ({
      ...values,
      [name]: values[name]! * by,
    });
    const tampered = {
      ...first,
      loss: first.loss * 1.001,
      gradNorm: scaled(first.gradNorm, fc0, 1.05),
      weightNormAfter: scaled(first.weightNormAfter, fc0, 0.98),
      runningMeanNorm: scaled(first.runningMeanNorm, `${bn1}.running_mean`, 1.001),
      runningVarNorm: scaled(first.runningVarNorm, `${bn1}.running_var`, 0.999),
      gradHead: { ...first.gradHead, [fc0]: first.gradHead[fc0]!.map((value) => -value) },
    };
    const features = golden.tensors.get("features")!;
    const moved = Float64Array.from(features.data as Float32Array, (value) => value * 1.001);
    const tensors = new Map([
      ...[...golden.tensors].filter(([name]) => name !== "evalFeatures"),
      ["features", { ...features, data: moved }] as const,
    ]);
    const spec = { ...golden.spec, steps: [tampered] };
    const deviations = deviationsOf(tested, { kind: "model", spec, tensors });
    const failed = deviations.filter((deviation) => !isWithin(deviation));
    assert.deepEqual(failed.map(({ quantity }) => quantity).sort(), [
      "features",
      "gradHead",
      "gradNorm",
      "loss",
      "runningMeanNorm",
      "runningVarNorm",
      "weightNormAfter",
    ]);
  });

  it("fail where the optimizer makes larger steps than it should", () => {
    const golden = readCase(FOLDER, "resnet18-quarter-16px");
    assert.equal(golden.kind, "model");
    const spec = { ...golden.spec, lr: 1.1 * golden.spec.lr };
    const failed = deviationsOf(tested, { ...golden, spec }).filter((d) => !isWithin(d));
    assert.ok(failed.some(({ quantity }) => quantity === "weightNormAfter"));
    assert.ok(failed.some(({ quantity }) => quantity === "loss"));
  });

  it("fail where the gradient of the loss is off by 2e-5 of its largest value", () => {
    const golden = readCase(FOLDER, "ntxent-small");
    assert.equal(golden.kind, "ntxent");
    const dz = golden.tensors.get("dz")!;
    const data = Float64Array.from(dz.data as Float64Array);
    data[17]! += 2e-5 * Math.max(...data.map(Math.abs));
    const tensors = new Map([...golden.tensors, ["dz", { ...dz, data }]]);
    const failed = deviationsOf(tested, { ...golden, tensors }).filter((d) => !isWithin(d));
    assert.deepEqual(
      failed.map(({ quantity, where }) => `${quantity}, ${where}`),
      ["dz, rank 0"],
    );
  });

  it("fail where an image is off by three levels, or by two where no pixel is resampled", () => {
    const golden = readCase(FOLDER, "augment");
    assert.equal(golden.kind, "augment");
    const changed = (name: string, levels: number): GoldenCase => {
      const tensor = golden.tensors.get(name)!;
      const data = Uint8Array.from(tensor.data as Uint8Array);
      data[100] = (data[100]! + 128) % 256 < 128 ? data[100]! + levels : data[100]! - levels;
      return { ...golden, tensors: new Map([...golden.tensors, [name, { ...tensor, data }]]) };
    };
    const failures = (golden: GoldenCase): string[] =>
      deviationsOf(tested, golden)
        .filter((deviation) => !isWithin(deviation))
        .map(({ quantity, where }) => `${quantity}, ${where}`);
    assert.deepEqual(failures(changed("blur1", 2)), []);
    assert.deepEqual(failures(changed("blur1", 3)), ["blur max, blur1"]);
    assert.deepEqual(failures(changed("gray", 1)), []);
    assert.deepEqual(failures(changed("gray", 2)), ["gray max, gray"]);
  });

  it("fail where a learning rate is off by a millionth", () => {
    const spec = { pretrain200: [[313, 0.4805853883029722 * (1 + 1e-6)]] } as {
      [name: string]: [number, number][];
    };
    const [deviation] = deviationsOf(tested, { kind: "schedules", spec });
    assert.ok(deviation && !isWithin(deviation));
  });
});

describe("deviations", () => {
  const base = { quantity: "loss", where: "" };

  it("keep the one that uses most of its tolerance", () => {
    const deviations = new Deviations();
    deviations.add({ ...base, error: 2, tolerance: 10 });
    deviations.add({ ...base, error: 1, tolerance: 2 });
    deviations.add({ ...base, error: 3, tolerance: 10 });
    assert.deepEqual(deviations.list(), [{ ...base, error: 1, tolerance: 2 }]);
  });

  it("never lose one that is no number", () => {
    const deviations = new Deviations();
    deviations.add({ ...base, error: Number.NaN, tolerance: 1 });
    deviations.add({ ...base, error: 100, tolerance: 1 });
    assert.equal(isWithin(deviations.list()[0]!), false);
  });
});
