/** Trains a reference case's model for its few steps and takes the values that the case knows. */

import { elementCount, planPretrain } from "../../proto/model/model-plan.ts";
import type { ModelRecipe, OptimizerRecipe } from "../../proto/recipe.ts";
import { soloGroup } from "../collective/process-group.ts";
import type { Engine } from "../engine/engine.ts";
import { ntXent } from "../loss/nt-xent.ts";
import { PretrainModel } from "../model/pretrain-model.ts";
import { updateOptions } from "../optim/update-options.ts";
import { fillTensor, fillUniform } from "./deterministic-fill.ts";
import type { ModelCase } from "./golden-folder.ts";

type StepValues = ModelCase["steps"][number];

export interface ModelValues {
  readonly steps: readonly StepValues[];
  /** `features` and `embeddings` of the first step, `evalFeatures` after the last. */
  readonly tensors: ReadonlyMap<string, ArrayLike<number>>;
}

export interface MeasuredValues extends ModelValues {
  /** Elements of each parameter, by name. */
  readonly sizes: ReadonlyMap<string, number>;
}

const INPUT_BOUND = 2;
const HEAD_VALUES = 4;

export interface InputNoise {
  /** Every input value is changed by a random share of itself, up to this. */
  readonly amount: number;
  /** Runs of different numbers get different noise. */
  readonly run: number;
}

export function measureModel(
  engine: Engine,
  spec: ModelCase,
  { embeddingDim, noise }: { readonly embeddingDim: number; readonly noise?: InputNoise },
): MeasuredValues {
  const recipe: ModelRecipe = {
    depth: spec.depth,
    width: spec.width,
    stem: spec.stem,
    zeroInitResidual: false,
    normEps: 1e-5,
    normMomentum: 0.1,
    neck: { out: embeddingDim },
  };
  const filled = planPretrain(recipe).tensors.map(
    (tensor) =>
      [tensor.name, { shape: tensor.shape, data: fillTensor(spec.seed, tensor) }] as const,
  );
  const model = new PretrainModel(engine, recipe, { tensors: new Map(filled), batchesTracked: 0 });
  const tensors = new Map<string, ArrayLike<number>>();
  const steps = spec.steps.map((_, step) =>
    engine.scope(() => {
      const shape = [2 * spec.images, 3, spec.size, spec.size];
      const images = engine.upload(inputOf(spec, step, noise), shape);
      const { features, z } = model.forwardTrain(images);
      if (step === 0) {
        tensors.set("features", engine.download(features));
        tensors.set("embeddings", engine.download(z));
      }
      const options = { dim: embeddingDim, temperature: spec.temperature };
      const { loss, dz_RD } = ntXent(engine, soloGroup, engine.download(z), options);

      const gradients: Float32Array[] = [];
      model.backward(engine.upload(dz_RD, z.shape), (index, gradient) => {
        gradients[index] = engine.download(gradient);
      });
      updateAll(engine, model, spec, gradients);
      if (step === spec.steps.length - 1) {
        tensors.set("evalFeatures", engine.download(model.evalFeatures(images)));
      }
      return valuesOf(model, loss, gradients);
    }),
  );
  const sizes = new Map(model.parameters.map(({ name, shape }) => [name, elementCount(shape)]));
  model.close();
  return { steps, tensors, sizes };
}

function inputOf(spec: ModelCase, step: number, noise?: InputNoise): Float32Array {
  const name = `${spec.case}.input.${step}`;
  const count = 2 * spec.images * 3 * spec.size ** 2;
  const input = fillUniform(spec.seed, name, count, INPUT_BOUND);
  if (!noise) return input;
  const factors = fillUniform(spec.seed, `${name}.noise.${noise.run}`, count, noise.amount);
  return input.map((value, k) => value * (1 + factors[k]!));
}

function updateAll(
  engine: Engine,
  model: PretrainModel,
  { lr, weightDecay }: ModelCase,
  gradients: readonly Float32Array[],
): void {
  const optimizer: OptimizerRecipe = {
    type: "lars",
    lr,
    weightDecay,
    momentum: 0.9,
    trustCoefficient: 0.001,
    eps: 1e-8,
    nesterov: false,
    excludeNormAndBias: true,
  };
  for (const [index, parameter] of model.parameters.entries()) {
    const { weight, velocity } = parameter;
    const options = updateOptions(optimizer, parameter, lr, 1);
    engine.update(weight, velocity, gradients[index]!, options);
  }
  model.commitStatistics();
}

function valuesOf(
  model: PretrainModel,
  loss: number,
  gradients: readonly Float32Array[],
): StepValues {
  const names = model.parameters.map(({ name }) => name);
  const norms = [...model.exportState().tensors].map(
    ([name, { data }]) => [name, normOf(data)] as const,
  );
  const runningMeans = norms.filter(([name]) => name.endsWith(".running_mean"));
  const runningVariances = norms.filter(([name]) => name.endsWith(".running_var"));
  const trained = new Set(names);
  return {
    loss,
    gradNorm: Object.fromEntries(names.map((name, k) => [name, normOf(gradients[k]!)])),
    gradHead: Object.fromEntries(
      names.map((name, k) => [name, [...gradients[k]!.subarray(0, HEAD_VALUES)]]),
    ),
    weightNormAfter: Object.fromEntries(norms.filter(([name]) => trained.has(name))),
    runningMeanNorm: Object.fromEntries(runningMeans),
    runningVarNorm: Object.fromEntries(runningVariances),
  };
}

function normOf(values: Float32Array): number {
  let squares = 0;
  for (const value of values) squares += value ** 2;
  return Math.sqrt(squares);
}
