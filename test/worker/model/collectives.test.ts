import assert from "node:assert/strict";
import type { ModelRecipe } from "../../../proto/recipe.ts";
import { type ProcessGroup, soloGroup } from "../../../worker/collective/process-group.ts";
import { ntXent } from "../../../worker/loss/nt-xent.ts";
import { createBatchReducer } from "../../../worker/model/batch-reducer.ts";
import { initialState } from "../../../worker/model/initial-state.ts";
import { PretrainModel } from "../../../worker/model/pretrain-model.ts";
import { ReferenceEngine } from "../../support/reference-engine.ts";
import { randomFloats, tinyRecipe } from "./tiny-model.ts";

/** Rank 0 of two that hold the same; counts what crosses between them. */
function countingGroup(): { readonly group: ProcessGroup; readonly gathered: number[] } {
  const gathered: number[] = [];
  const allGather = (own: Float32Array): Float32Array => {
    gathered.push(own.length);
    return Float32Array.from([...own, ...own]);
  };
  return { group: { ...soloGroup, worldSize: 2, allGather }, gathered };
}

/** All-gathers of one step: of the forward, the loss and the backward. */
function countStep(recipe: ModelRecipe, size: number) {
  const engine = new ReferenceEngine();
  const { group, gathered } = countingGroup();
  const model = new PretrainModel(engine, recipe, initialState(recipe, "pretrain", 1));
  const images = engine.upload(randomFloats(2, 4 * 3 * size * size), [4, 3, size, size]);
  const since = (begin: number): number => gathered.length - begin;

  const { z } = model.forwardTrain(images, createBatchReducer(group));
  const forward = since(0);
  const options = { dim: recipe.neck.out, temperature: 0.5 };
  const { dz_RD } = ntXent(engine, group, engine.download(z), options);
  const loss = since(forward);
  model.backward(engine.upload(dz_RD, z.shape), () => {});
  return { forward, loss, backward: since(forward + loss), gathered };
}

describe("the small collectives of a step", () => {
  // 20 norms in the backbone and 2 in the neck; 3 blocks have a norm in their shortcut.
  it("are 19 each way in ResNet-18, as its shortcuts' norms go with their blocks' last", () => {
    const { forward, loss, backward, gathered } = countStep(tinyRecipe, 8);
    assert.deepEqual({ forward, loss, backward }, { forward: 19, loss: 2, backward: 19 });
    // The narrowest norms have 2 channels: mean, variance and count there, two sums back.
    assert.equal(gathered[0], 5);
    assert.equal(gathered.at(-1), 4);
  });

  it("are 51 each way in ResNet-50, for 55 norms", function () {
    this.timeout(20_000);
    const recipe: ModelRecipe = { ...tinyRecipe, depth: 50, stem: "imagenet" };
    const { forward, loss, backward } = countStep(recipe, 32);
    assert.deepEqual({ forward, loss, backward }, { forward: 51, loss: 2, backward: 51 });
  });
});
