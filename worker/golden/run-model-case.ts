/** A few training steps of the whole model, compared with PyTorch's in float64. */

import { FleetError } from "../../proto/errors.ts";
import { planPretrain } from "../../proto/model/model-plan.ts";
import type { ModelRecipe, OptimizerRecipe } from "../../proto/recipe.ts";
import { soloGroup } from "../collective/process-group.ts";
import type { Engine, Tensor } from "../engine/engine.ts";
import { ntXent } from "../loss/nt-xent.ts";
import type { NamedTensors } from "../model/model-state.ts";
import { PretrainModel } from "../model/pretrain-model.ts";
import { updateOptions } from "../optim/update-options.ts";
import { fillTensor, fillUniform } from "./deterministic-fill.ts";
import type { Deviations } from "./deviations.ts";
import { type GoldenTensors, type ModelCase, requireTensor } from "./golden-folder.ts";

const TOLERANCE = 1e-4;
const INPUT_BOUND = 2;

type GoldenStep = ModelCase["steps"][number];

/** @throws {FleetError} DATA_INVALID when the case lacks a tensor or names an unknown one */
export function runModelCase(
  engine: Engine,
  spec: ModelCase,
  tensors: GoldenTensors,
  deviations: Deviations,
): void {
  const recipe = recipeOf(spec, tensors);
  const filled = planPretrain(recipe).tensors.map(
    (tensor) =>
      [tensor.name, { shape: tensor.shape, data: fillTensor(spec.seed, tensor) }] as const,
  );
  engine.scope(() => {
    const model = new PretrainModel(engine, recipe, {
      tensors: new Map(filled),
      batchesTracked: 0,
    });
    for (const [step, golden] of spec.steps.entries()) {
      engine.scope(() => {
        const shape = [2 * spec.images, 3, spec.size, spec.size];
        const input = fillUniform(
          spec.seed,
          `${spec.case}.input.${step}`,
          shape.reduce((a, b) => a * b),
          INPUT_BOUND,
        );
        const images = engine.upload(input, shape);
        const checks = new StepChecks(deviations, golden, step);
        trainStep(engine, spec, model, images, checks, step === 0 ? tensors : undefined);
        if (step < spec.steps.length - 1) return;
        const features = engine.download(model.evalFeatures(images));
        checks.tensor("evalFeatures", features, tensors);
      });
    }
  });
}

function recipeOf({ depth, width, stem }: ModelCase, tensors: GoldenTensors): ModelRecipe {
  return {
    depth,
    width,
    stem,
    zeroInitResidual: false,
    normEps: 1e-5,
    normMomentum: 0.1,
    neck: { out: requireTensor(tensors, "embeddings").shape[1]! },
  };
}

function optimizerOf({ lr, weightDecay }: ModelCase): OptimizerRecipe {
  return {
    type: "lars",
    lr,
    weightDecay,
    momentum: 0.9,
    trustCoefficient: 0.001,
    eps: 1e-8,
    nesterov: false,
    excludeNormAndBias: true,
  };
}

function trainStep(
  engine: Engine,
  spec: ModelCase,
  model: PretrainModel,
  images: Tensor,
  checks: StepChecks,
  outputs: GoldenTensors | undefined,
): void {
  const { features, z } = model.forwardTrain(images);
  const z_RD = engine.download(z);
  if (outputs) {
    checks.tensor("features", engine.download(features), outputs);
    checks.tensor("embeddings", z_RD, outputs);
  }
  const options = { dim: z.shape[1]!, temperature: spec.temperature };
  const { loss, dz_RD } = ntXent(engine, soloGroup, z_RD, options);
  checks.loss(loss);

  const gradients: Float32Array[] = [];
  const dz = engine.upload(dz_RD, z.shape);
  model.backward(dz, (index, gradient) => {
    gradients[index] = engine.download(gradient);
  });
  const optimizer = optimizerOf(spec);
  for (const [index, parameter] of model.parameters.entries()) {
    const gradient = gradients[index]!;
    checks.gradient(parameter.name, gradient);
    const update = updateOptions(optimizer, parameter, spec.lr, 1);
    engine.update(parameter.weight, parameter.velocity, gradient, update);
  }
  model.commitStatistics();
  checks.names(model.parameters.length);
  checks.state(model.exportState().tensors);
}

/** Compares what one step gives with its reference values. */
class StepChecks {
  readonly #deviations: Deviations;
  readonly #golden: GoldenStep;
  readonly #step: number;

  constructor(deviations: Deviations, golden: GoldenStep, step: number) {
    this.#deviations = deviations;
    this.#golden = golden;
    this.#step = step;
  }

  loss(actual: number): void {
    this.#relative("loss", actual, this.#golden.loss, "");
  }

  gradient(name: string, actual: Float32Array): void {
    const norm = normOf(actual);
    const expectedNorm = this.#golden.gradNorm[name] ?? Number.NaN;
    this.#relative("gradNorm", norm, expectedNorm, name);
    // A single value may be close to zero by chance: its yardstick is the tensor's usual value.
    const head = this.#golden.gradHead[name] ?? [Number.NaN];
    const usual = expectedNorm / Math.sqrt(actual.length);
    const scale = Math.max(usual, ...head.map(Math.abs));
    for (const [k, expected] of head.entries()) {
      this.#compare("gradHead", { actual: actual[k]!, expected, scale }, name);
    }
  }

  state(tensors: NamedTensors): void {
    const { weightNormAfter, runningMeanNorm, runningVarNorm } = this.#golden;
    for (const [name, { data }] of tensors) {
      const [quantity, expected] = name.endsWith(".running_mean")
        ? ["runningMeanNorm", runningMeanNorm[name]]
        : name.endsWith(".running_var")
          ? ["runningVarNorm", runningVarNorm[name]]
          : ["weightNorm", weightNormAfter[name]];
      this.#relative(quantity as string, normOf(data), (expected as number) ?? Number.NaN, name);
    }
  }

  /** @throws {FleetError} DATA_INVALID when the case tells of other parameters than the model has */
  names(parameters: number): void {
    const expected = Object.keys(this.#golden.gradNorm).length;
    if (expected === parameters) return;
    const message = `the model has ${parameters} parameters, the case ${expected}`;
    throw new FleetError("DATA_INVALID", message);
  }

  /** Relative to the largest value of the tensor. */
  tensor(name: string, actual: Float32Array, tensors: GoldenTensors): void {
    const { data } = requireTensor(tensors, name);
    let scale = 0;
    for (let k = 0; k < data.length; k++) scale = Math.max(scale, Math.abs(data[k]!));
    for (let k = 0; k < Math.max(data.length, actual.length); k++) {
      const comparison = { actual: actual[k] ?? Number.NaN, expected: data[k] ?? 0, scale };
      this.#compare(name, comparison, `[${k}]`);
    }
  }

  #relative(quantity: string, actual: number, expected: number, name: string): void {
    this.#compare(quantity, { actual, expected, scale: Math.abs(expected) }, name);
  }

  #compare(
    quantity: string,
    comparison: { readonly actual: number; readonly expected: number; readonly scale: number },
    name: string,
  ): void {
    const where = `step ${this.#step} ${name}`.trimEnd();
    this.#deviations.addRelative(quantity, comparison, TOLERANCE, where);
  }
}

function normOf(values: Float32Array): number {
  let squares = 0;
  for (const value of values) squares += value ** 2;
  return Math.sqrt(squares);
}
