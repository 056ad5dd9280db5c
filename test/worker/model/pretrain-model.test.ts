import assert from "node:assert/strict";
import type { ModelRecipe } from "../../../proto/recipe.ts";
import type { Tensor } from "../../../worker/engine/engine.ts";
import { initialState } from "../../../worker/model/initial-state.ts";
import type { ModelState } from "../../../worker/model/model-state.ts";
import { PretrainModel } from "../../../worker/model/pretrain-model.ts";
import { ReferenceEngine } from "../../support/reference-engine.ts";
import { randomFloats, tinyRecipe, withRandomNorms, withTensor } from "./tiny-model.ts";

const IMAGES = 6;
const SIZE = 8;

function setUp(recipe: ModelRecipe = tinyRecipe, size: number = SIZE) {
  const engine = new ReferenceEngine();
  const state = withRandomNorms(initialState(recipe, "pretrain", 1));
  const model = new PretrainModel(engine, recipe, state);
  const shape = [IMAGES, 3, size, size];
  const images = engine.upload(randomFloats(2, IMAGES * 3 * size * size), shape);
  return { engine, state, model, images };
}

/** Gradients of the sum of z * dz, by parameter index. */
function gradientsOf(
  engine: ReferenceEngine,
  model: PretrainModel,
  images: Tensor,
  dz: Float32Array,
): Float64Array[] {
  const gradients: Float64Array[] = [];
  const { z } = model.forwardTrain(images);
  model.backward(engine.upload(dz, z.shape), (index, gradient) => {
    gradients[index] = engine.downloadExact(gradient);
  });
  return gradients;
}

describe("pretrain model", () => {
  const bottleneck: ModelRecipe = { ...tinyRecipe, depth: 50, stem: "imagenet" };
  for (const { title, recipe, size, stride } of [
    { title: "ResNet-18 with the cifar stem", recipe: tinyRecipe, size: SIZE, stride: 1 },
    // Every fourth parameter is enough to meet weights, norm weights and norm biases everywhere.
    { title: "ResNet-50 with the imagenet stem", recipe: bottleneck, size: 32, stride: 4 },
  ]) {
    it(`has the gradients that finite differences have: ${title}`, function () {
      this.timeout(60_000);
      const { engine, state, model, images } = setUp(recipe, size);
      const dz = randomFloats(3, IMAGES * recipe.neck.out);
      const gradients = gradientsOf(engine, model, images, dz);
      const objective = (changed: ModelState): number =>
        engine.scope(() => {
          model.importState(changed);
          const z = engine.downloadExact(model.forwardTrain(images).z);
          return z.reduce((sum, value, k) => sum + value * dz[k]!, 0);
        });

      for (const [index, { name }] of model.parameters.entries()) {
        if (index % stride > 0) continue;
        const { data } = state.tensors.get(name)!;
        const k = Math.floor(data.length / 2);
        const step = (by: number) => data.map((value, at) => (at === k ? value + by : value));
        const [up, down] = [step(1e-6), step(-1e-6)];
        const slope =
          (objective(withTensor(state, name, up)) - objective(withTensor(state, name, down))) /
          (up[k]! - down[k]!);
        const gradient = gradients[index]!;
        const scale = Math.max(...gradient.map(Math.abs));
        const error = Math.abs(gradient[k]! - slope) / scale;
        assert.ok(error < 1e-4, `${name}[${k}]: ${gradient[k]} against ${slope}, scale ${scale}`);
      }
    });
  }

  it("delivers every gradient once, last parameter first, and of its shape", () => {
    const { engine, model, images } = setUp();
    const delivered: number[] = [];
    const { z } = model.forwardTrain(images);
    model.backward(engine.upload(randomFloats(3, 24), z.shape), (index, gradient) => {
      delivered.push(index);
      assert.deepEqual(gradient.shape, model.parameters[index]?.shape);
    });
    const all = model.parameters.map((_, index) => index);
    assert.deepEqual(delivered, all.toReversed());
  });

  it("frees everything that a step made, without a scope", () => {
    const { engine, model, images } = setUp({ ...tinyRecipe, depth: 50, stem: "imagenet" }, 32);
    const before = engine.memory().tensors;
    const { z } = model.forwardTrain(images);
    const dz = engine.upload(randomFloats(3, 24), z.shape);
    model.backward(dz, () => {});
    engine.release(dz);
    assert.equal(engine.memory().tensors, before);
    engine.release(model.evalFeatures(images));
    assert.equal(engine.memory().tensors, before);
    model.close();
    engine.release(images);
    assert.equal(engine.memory().tensors, 0);
  });

  it("frees the activations of later layers before it reaches the first", () => {
    const { engine, model, images } = setUp();
    const { z } = model.forwardTrain(images);
    const dz = engine.upload(randomFloats(3, 24), z.shape);
    const alive: number[] = [];
    model.backward(dz, () => alive.push(engine.memory().tensors));
    assert.ok(alive.at(-1)! < alive[0]! / 2 + model.parameters.length);
  });

  it("returns z of the neck and the features that it was made from", () => {
    const { engine, model, images } = setUp();
    const { features, z } = model.forwardTrain(images);
    assert.deepEqual(features.shape, [IMAGES, 16]);
    assert.deepEqual(z.shape, [IMAGES, 4]);
    // The last norm's output has its bias as mean and about its weight as deviation.
    const { data: bias } = model.exportState().tensors.get("neck.bn1.bias")!;
    const values = engine.downloadExact(z);
    for (const [channel, expected] of bias.entries()) {
      let sum = 0;
      for (let row = 0; row < IMAGES; row++) sum += values[row * 4 + channel]!;
      assert.ok(Math.abs(sum / IMAGES - expected) < 1e-9);
    }
  });
});

describe("the state of a pretrain model", () => {
  it("does not change before the step commits", () => {
    const { engine, state, model, images } = setUp();
    gradientsOf(engine, model, images, randomFloats(3, 24));
    assert.deepEqual(model.exportState(), state);
  });

  it("takes 0.1 of the batch's mean and unbiased variance", () => {
    const { engine, state, model, images } = setUp();
    const before = engine.downloadExact(
      engine.convolution(images, model.parameters[0]!.weight, { stride: 1, padding: 1 }),
    );
    model.forwardTrain(images);
    model.commitStatistics();
    const { tensors, batchesTracked } = model.exportState();
    assert.equal(batchesTracked, state.batchesTracked + 1);
    assert.equal(model.batchesTracked, batchesTracked);

    const pixels = SIZE * SIZE;
    const channel = before.filter((_, k) => Math.floor(k / pixels) % 2 === 1);
    const mean = channel.reduce((sum, value) => sum + value, 0) / channel.length;
    const unbiased =
      channel.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (channel.length - 1);
    const runningMean = tensors.get("backbone.bn1.running_mean")!.data[1]!;
    const runningVariance = tensors.get("backbone.bn1.running_var")!.data[1]!;
    assert.ok(Math.abs(runningMean - 0.1 * mean) < 1e-7);
    assert.ok(Math.abs(runningVariance - (0.9 + 0.1 * unbiased)) < 1e-6);
  });

  it("commits the same statistics once only", () => {
    const { model, images } = setUp();
    model.forwardTrain(images);
    model.commitStatistics();
    assert.throws(() => model.commitStatistics(), /once after a forwardTrain/);
  });

  it("forgets the statistics of a step that was given up", () => {
    const { engine, model, images } = setUp();
    model.forwardTrain(images);
    const other = engine.upload(randomFloats(9, IMAGES * 3 * SIZE * SIZE), images.shape);
    model.forwardTrain(other);
    model.commitStatistics();
    const twin = setUp();
    twin.model.forwardTrain(twin.engine.upload(engine.download(other), images.shape));
    twin.model.commitStatistics();
    assert.deepEqual(model.exportState(), twin.model.exportState());
  });

  it("comes out as it went in, momentum included", () => {
    const { engine, model } = setUp();
    const state = { ...initialState(tinyRecipe, "pretrain", 5), batchesTracked: 12 };
    model.importState(state);
    assert.deepEqual(model.exportState(), state);

    const velocities = new Map(
      [...model.exportVelocities()].map(([name, { shape, data }], index) => {
        assert.ok(
          data.every((value) => value === 0),
          "momentum starts at zero",
        );
        return [name, { shape, data: randomFloats(index, data.length) }];
      }),
    );
    model.importVelocities(velocities);
    assert.deepEqual(model.exportVelocities(), velocities);
    const { name, velocity } = model.parameters[3]!;
    assert.deepEqual(engine.download(velocity), velocities.get(name)?.data);
  });

  it("is refused when it is another model's, with the names that do not fit", () => {
    const { model } = setUp();
    const wider = initialState({ ...tinyRecipe, width: 1 / 16 }, "pretrain", 1);
    assert.throws(() => model.importState(wider), {
      code: "CHECKPOINT_INVALID",
      message: /backbone\.conv1\.weight is \[4, 3, 3, 3\], not \[2, 3, 3, 3\].* and \d+ more/,
    });
    const { tensors } = initialState(tinyRecipe, "pretrain", 1);
    const holed = new Map([...tensors].filter(([name]) => name !== "neck.bn1.bias"));
    assert.throws(
      () => model.importState({ tensors: holed, batchesTracked: 0 }),
      /neck\.bn1\.bias is missing/,
    );
    assert.throws(() => model.importVelocities(tensors), /running_mean is not part of the model/);
  });

  it("decides eval features by running statistics alone", () => {
    const { engine, model, images } = setUp();
    const before = engine.download(model.evalFeatures(images));
    model.forwardTrain(images);
    assert.deepEqual(engine.download(model.evalFeatures(images)), before);
    model.commitStatistics();
    assert.notDeepEqual(engine.download(model.evalFeatures(images)), before);
  });
});
