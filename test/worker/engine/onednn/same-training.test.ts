import assert from "node:assert/strict";
import { parseRecipe } from "../../../../proto/recipe.ts";
import { findRecipe } from "../../../../proto/recipes/registry.ts";
import { soloGroup } from "../../../../worker/collective/process-group.ts";
import type { Engine } from "../../../../worker/engine/engine.ts";
import { openEngine } from "../../../../worker/engine/open-engine.ts";
import { ntXent } from "../../../../worker/loss/nt-xent.ts";
import { initialState } from "../../../../worker/model/initial-state.ts";
import { PretrainModel } from "../../../../worker/model/pretrain-model.ts";
import { learningRateAt } from "../../../../worker/optim/learning-rate.ts";
import { updateOptions } from "../../../../worker/optim/update-options.ts";
import { Prng } from "../../../support/prng.ts";

const STEPS = 50;
const IMAGES = 8;
const SIZE = 8;

/** Losses of the CIFAR-10 recipe's first steps on one batch, with a narrow ResNet-18. */
function lossesOf(engine: Engine): number[] {
  const recipe = parseRecipe(findRecipe("simclr_resnet18_2xb128-coslr-100e_cifar10"));
  const model = { ...recipe.model, width: 0.125 };
  const { optimizer, schedule, temperature } = recipe.pretrain;
  const length = { baseLr: optimizer.lr, epochs: 1, stepsPerEpoch: STEPS };
  return engine.scope(() => {
    const trained = new PretrainModel(engine, model, initialState(model, "pretrain", 1));
    const prng = new Prng(3);
    const pixels = Float32Array.from(
      { length: 2 * IMAGES * 3 * SIZE ** 2 },
      () => prng.next() - 0.5,
    );
    const images = engine.upload(pixels, [2 * IMAGES, 3, SIZE, SIZE]);
    return Array.from({ length: STEPS }, (_, step) =>
      engine.scope(() => {
        const { z } = trained.forwardTrain(images);
        const options = { dim: z.shape[1]!, temperature };
        const { loss, dz_RD } = ntXent(engine, soloGroup, engine.download(z), options);
        const gradients: Float32Array[] = [];
        trained.backward(engine.upload(dz_RD, z.shape), (index, gradient) => {
          gradients[index] = engine.download(gradient);
        });
        const lr = learningRateAt(schedule, length, step);
        for (const [index, parameter] of trained.parameters.entries()) {
          const update = updateOptions(optimizer, parameter, lr, 1);
          engine.update(parameter.weight, parameter.velocity, gradients[index]!, update);
        }
        trained.commitStatistics();
        return loss;
      }),
    );
  });
}

describe("training on onednn", function () {
  this.timeout(60_000);

  async function run(name: string, threads = 1): Promise<number[]> {
    const { engine } = await openEngine(name, { threads, precision: "f32" });
    try {
      return lossesOf(engine);
    } finally {
      engine.close();
    }
  }

  it(`gives the same ${STEPS} losses as tfjs, and the same bits each time`, async () => {
    const [expected, actual, again] = [
      await run("tfjs:wasm"),
      await run("onednn"),
      await run("onednn"),
    ];
    assert.deepEqual(actual, again);
    const errors = actual.map((loss, k) => Math.abs(loss / expected[k]! - 1));
    const worst = Math.max(...errors);
    assert.ok(worst < 1e-3, `step ${errors.indexOf(worst)} is off by ${worst}`);
    assert.ok(actual.at(-1)! < actual[0]!, "it learns");
  });
});
