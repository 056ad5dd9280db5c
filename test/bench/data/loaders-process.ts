/** A run of ours: loads the images of the spec in its first argument, and prints a measurement. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { Worker } from "node:worker_threads";
import { FleetError } from "../../../proto/errors.ts";
import type { Recipe } from "../../../proto/recipe.ts";
import { parseRecipe } from "../../../proto/recipe.ts";
import { findRecipe } from "../../../proto/recipes/registry.ts";
import { openDataset } from "../../../worker/data/dataset.ts";
import type { LoadPlan } from "../../../worker/data/load-plan.ts";
import { startLoaders } from "../../../worker/data/loaders.ts";
import { trainPlan, validationPlan } from "../../../worker/session/load-plans.ts";
import type { ReaderTimes } from "./reader-thread.ts";
import { type DataSpec, type Measurement, specSchema } from "./spec.ts";

const RECIPE = "simclr_resnet50_8xb32-coslr-200e_in1k";
const BATCH = 20;

const spec = specSchema.parse(JSON.parse(process.argv[2] ?? ""));
process.stdout.write(`${JSON.stringify(await measure(spec))}\n`);

async function measure(spec: DataSpec): Promise<Measurement> {
  const list = path.join(mkdtempSync(path.join(tmpdir(), "simclr-bench-")), "images.txt");
  try {
    return await measureList(spec, list);
  } finally {
    rmSync(path.dirname(list), { recursive: true });
  }
}

/**
 * One epoch over a list that names every image so many times: what the loaders keep of a small data
 * set between epochs, a data set of that kind is too large for.
 */
async function measureList(spec: DataSpec, list: string): Promise<Measurement> {
  const names = readdirSync(spec.images, { recursive: true, encoding: "utf8" })
    .filter((name) => /\.jpe?g$/i.test(name))
    .sort();
  if (names.length < BATCH) {
    throw new FleetError("DATA_INVALID", `${spec.images} has fewer than ${BATCH} JPEG images`);
  }
  const pass = names.slice(0, names.length - (names.length % BATCH));
  const passes = Array.from({ length: spec.repeat + 1 }, () => pass).flat();
  writeFileSync(list, passes.map((name) => `${name} 0\n`).join(""));
  const recipe = recipeOf(spec, list);
  const dataset = await openDataset(recipe.data, "train");
  const plan = planOf(recipe, spec.pipeline);
  const loaders = await startLoaders({
    dataset,
    plan,
    threads: spec.threads,
    onSkipped: ({ path: image, reason }) => {
      throw new FleetError("DATA_INVALID", `${image} ${reason}`);
    },
  });
  try {
    const reader = new Worker(new URL("./reader-thread.js", import.meta.url), {
      workerData: { shared: loaders.shared, warmup: pass.length },
    });
    const [{ images, seconds }] = (await once(reader, "message")) as [ReaderTimes];
    assert.ok(images > 0 && seconds > 0);
    return { images, images_per_s: Number((images / seconds).toFixed(1)) };
  } finally {
    await loaders.close();
  }
}

function recipeOf({ images, size }: DataSpec, annotations: string): Recipe {
  const base = findRecipe(RECIPE);
  const split = { path: images, annotations };
  return parseRecipe({
    ...base,
    data: { ...base.data, root: "/", train: split, val: split, imageSize: size },
    pretrain: { ...base.pretrain, workers: 1, batchPerWorker: BATCH, epochs: 1, schedule: {} },
    linear: {
      ...base.linear,
      workers: 1,
      batchPerWorker: BATCH,
      epochs: 1,
      validation: { batchPerWorker: BATCH, resizeEdge: Math.round((size * 256) / 224) },
    },
  });
}

function planOf(recipe: Recipe, pipeline: DataSpec["pipeline"]): LoadPlan {
  const place = { rank: 0, worldSize: 1, startStep: 0 };
  if (pipeline !== "validation") return trainPlan(recipe, pipeline, place);
  const plan = validationPlan(recipe, place);
  assert.equal(plan.kind, "validation");
  return { ...plan, passes: 1 };
}
