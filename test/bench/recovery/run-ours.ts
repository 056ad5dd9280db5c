/** Our side: a gang and one worker that waits; whoever is killed is replaced at once. */

import path from "node:path";
import { ChaosCluster } from "../../chaos/chaos-cluster.ts";
import { submit, TrainingWatch } from "../../chaos/training-watch.ts";
import { tinyRecipe, writeImages } from "../../support/cluster.ts";
import { tempDir } from "../../support/processes.ts";
import { until } from "../../support/until.ts";
import { type RunOptions, withinRun } from "../within-run.ts";
import { type Recoveries, type RecoverySpec, STEP_TIMEOUT_MS, STEPS_BEFORE_KILL } from "./spec.ts";

/** More than any run gets to. */
const EPOCHS = 100_000;

/**
 * Starts a cluster, kills workers, and takes it down. Whatever happens, no process is left.
 *
 * @throws {FleetError} UNEXPECTED when it takes too long
 */
export async function runOurs(
  spec: RecoverySpec & { readonly engine: string },
  options: RunOptions,
): Promise<Recoveries> {
  const { dir, remove } = await tempDir();
  const { engine, world } = spec;
  const cluster = new ChaosCluster(dir, { coordinators: 1, workers: world + 1, engine });
  const run = { seconds: [] as number[] };
  try {
    const whereabouts = () => `our gang recovered ${run.seconds.length} times`;
    await withinRun(killOneByOne(cluster, spec, run.seconds), options, whereabouts);
    return run.seconds;
  } finally {
    await cluster.close();
    await remove();
  }
}

async function killOneByOne(
  cluster: ChaosCluster,
  spec: RecoverySpec,
  seconds: number[],
): Promise<void> {
  const data = path.join(cluster.dir, "data");
  await writeImages(data, { train: 8 * spec.world * spec.batch, val: 2 });
  await cluster.start();
  const watch = new TrainingWatch(cluster, await submit(cluster, recipeOf(spec, data)));
  for (let kill = 0; kill < spec.kills; kill++) {
    await stepsFrom(watch, STEPS_BEFORE_KILL);
    const account = await watch.account();
    const name = account?.workers.filter(({ isBusy }) => isBusy)[kill % spec.world]?.name;
    const victim = cluster.workers.find((worker) => worker.name === name);
    if (!victim) throw new Error("no worker of the gang is there to be killed");
    const { generation, step } = watch.position();
    const started = performance.now();
    const ended = cluster.end(victim, "SIGKILL");
    const isAgain = () => {
      const now = watch.position();
      return now.generation > generation && now.step > step;
    };
    await until("the next step", isAgain, STEP_TIMEOUT_MS);
    seconds.push((performance.now() - started) / 1000);
    await ended;
    await cluster.startWorker();
  }
}

async function stepsFrom(watch: TrainingWatch, count: number): Promise<void> {
  const { step } = watch.position();
  await until(`${count} steps`, () => watch.position().step >= step + count, STEP_TIMEOUT_MS);
}

function recipeOf({ world, batch, size, width }: RecoverySpec, root: string): object {
  const base = tinyRecipe(root, {});
  return {
    ...base,
    name: "recovery",
    stages: ["pretrain"],
    model: { depth: 18, width, stem: "cifar", neck: { out: 128 } },
    data: { ...base.data, imageSize: size },
    linear: { ...base.linear, validation: { resizeEdge: size } },
    pretrain: {
      ...base.pretrain,
      workers: world,
      batchPerWorker: batch,
      epochs: EPOCHS,
      // As DistributedDataParallel has it.
      syncBatchNorm: false,
      checkpoint: { everyEpochs: EPOCHS },
      monitor: { everyEpochs: EPOCHS, knn: { enabled: false }, probe: { enabled: false } },
    },
  };
}
