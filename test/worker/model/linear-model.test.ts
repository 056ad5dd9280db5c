import assert from "node:assert/strict";
import { initialState } from "../../../worker/model/initial-state.ts";
import { LinearModel } from "../../../worker/model/linear-model.ts";
import { PretrainModel } from "../../../worker/model/pretrain-model.ts";
import { ReferenceEngine } from "../../support/reference-engine.ts";
import { randomFloats, tinyRecipe, withTensor } from "./tiny-model.ts";

const IMAGES = 4;
const CLASSES = 3;
const SHAPE = [IMAGES, 3, 8, 8];

function setUp() {
  const engine = new ReferenceEngine();
  const state = initialState(tinyRecipe, "linear", 1, CLASSES);
  const model = new LinearModel(engine, tinyRecipe, state);
  const images = engine.upload(randomFloats(2, IMAGES * 3 * 64), SHAPE);
  return { engine, state, model, images };
}

describe("linear model", () => {
  it("sees the features that pre-training's model has in eval mode", () => {
    const { engine, model, images } = setUp();
    const pretrained = new PretrainModel(
      engine,
      tinyRecipe,
      initialState(tinyRecipe, "pretrain", 1),
    );
    pretrained.forwardTrain(images);
    pretrained.commitStatistics();

    const source = pretrained.exportState();
    let state = model.exportState();
    for (const [name, { data }] of source.tensors) {
      if (name.startsWith("backbone.")) state = withTensor(state, name, data);
    }
    model.importState(state);
    assert.deepEqual(
      engine.download(model.forwardFeatures(images)),
      engine.download(pretrained.evalFeatures(images)),
    );
  });

  it("has the head's gradients that finite differences have", () => {
    const { engine, state, model, images } = setUp();
    const features = model.forwardFeatures(images);
    const dLogits = randomFloats(3, IMAGES * CLASSES);
    const gradients = model
      .backward(features, engine.upload(dLogits, [IMAGES, CLASSES]))
      .map((gradient) => engine.downloadExact(gradient));
    const objective = (name: string, data: Float32Array): number => {
      model.importState(withTensor(state, name, data));
      return engine
        .downloadExact(model.forwardLogits(features))
        .reduce((sum, value, k) => sum + value * dLogits[k]!, 0);
    };

    for (const [index, { name, shape }] of model.parameters.entries()) {
      const { data } = state.tensors.get(name)!;
      assert.deepEqual(
        data.length,
        shape.reduce((a, b) => a * b),
      );
      for (const k of data.keys()) {
        const step = (by: number) => data.map((value, at) => (at === k ? value + by : value));
        const [up, down] = [step(0.25), step(-0.25)];
        const slope = (objective(name, up) - objective(name, down)) / (up[k]! - down[k]!);
        assert.ok(Math.abs(gradients[index]![k]! - slope) < 1e-6, `${name}[${k}]`);
      }
    }
  });

  it("never moves the backbone", () => {
    const { engine, state, model, images } = setUp();
    const features = model.forwardFeatures(images);
    const dLogits = engine.upload(randomFloats(3, IMAGES * CLASSES), [IMAGES, CLASSES]);
    for (const [index, gradient] of model.backward(features, dLogits).entries()) {
      const { weight, velocity } = model.parameters[index]!;
      const options = { lr: 1, momentum: 0, weightDecay: 0, nesterov: false, gradientScale: 1 };
      engine.update(weight, velocity, engine.download(gradient), options);
    }
    for (const [name, { data }] of model.exportState().tensors) {
      const before = state.tensors.get(name)?.data;
      if (name.startsWith("head.")) assert.notDeepEqual(data, before, name);
      else assert.deepEqual(data, before, name);
    }
  });

  it("frees what a step made, and its state at the end", () => {
    const { engine, model, images } = setUp();
    const before = engine.memory().tensors;
    const features = model.forwardFeatures(images);
    const logits = model.forwardLogits(features);
    engine.release(...model.backward(features, logits), features, logits);
    assert.equal(engine.memory().tensors, before);
    model.close();
    engine.release(images);
    assert.equal(engine.memory().tensors, 0);
  });

  it("refuses the state of another backbone", () => {
    const { engine } = setUp();
    const pretrain = initialState(tinyRecipe, "pretrain", 1);
    assert.throws(() => new LinearModel(engine, tinyRecipe, pretrain), {
      code: "CHECKPOINT_INVALID",
      message: /head\.fc\.bias is missing/,
    });
  });
});
