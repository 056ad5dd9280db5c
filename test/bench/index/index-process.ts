/** Opens the archives once, in a fresh process, and prints what that took. */

import { monitorEventLoopDelay } from "node:perf_hooks";
import { type Dataset, openDataset } from "../../../worker/data/dataset.ts";
import { EntryReader } from "../../../worker/data/entry-reader.ts";
import { epochIndices, randomPermutation } from "../../../worker/data/sampler.ts";
import { dataRecipe } from "../../worker/data/sample-data.ts";
import { readProcess } from "../process-tree.ts";
import { laterMedian, round } from "../step/measurement.ts";
import { ARCHIVES, type IndexTask, type Opened } from "./spec.ts";

const PERMUTATIONS = 5;
/** Until the index thread has ended and given its memory back. */
const SETTLE_MS = 500;
const MB = 1024 * 1024;

const task = JSON.parse(process.argv[2] ?? "") as IndexTask;
process.stdout.write(`${JSON.stringify(await measure(task))}\n`);

async function measure({ folder, reads }: IndexTask): Promise<Opened> {
  const before = process.memoryUsage.rss();
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const start = performance.now();
  const recipe = dataRecipe(folder, { path: ARCHIVES });
  const dataset = await openDataset(recipe, "train");
  const open_s = (performance.now() - start) / 1000;
  // One more turn, so that a stall at the very end counts.
  await new Promise((resolve) => setTimeout(resolve, 5));
  delay.disable();
  const peak = 1024 * (readProcess(process.pid)?.peakRssKb ?? Number.NaN);
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  globalThis.gc?.();
  const held = process.memoryUsage.rss();
  return {
    images: dataset.count,
    open_s: round(open_s, 4),
    peak_mb: round((peak - before) / MB, 1),
    held_mb: round((held - before) / MB, 1),
    stall_ms: round(delay.max / 1e6, 1),
    ...(reads > 0 && { reads_per_s: readRate(dataset, reads) }),
    ...(reads > 0 && { permutation_ms: permutationMs(dataset.count) }),
  };
}

/** In the order of an epoch; twice, so that what counts are reads from the cache. */
function readRate(dataset: Dataset, reads: number): number {
  const { count } = dataset;
  const alone = { rank: 0, ranks: 1, worldSize: 1, batchPerWorker: 256 };
  const order = epochIndices({ count, seed: 0, epoch: 0, ...alone });
  const reader = new EntryReader(dataset);
  const images = order.subarray(0, reads);
  for (const image of images) reader.read(image);
  const start = performance.now();
  for (const image of images) reader.read(image);
  const seconds = (performance.now() - start) / 1000;
  reader.close();
  return round(images.length / seconds, 0);
}

function permutationMs(count: number): number {
  const times = Array.from({ length: PERMUTATIONS }, (_, seed) => {
    const start = performance.now();
    randomPermutation(count, seed);
    return performance.now() - start;
  });
  return round(laterMedian(times), 2);
}
