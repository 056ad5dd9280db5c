/** A whole cluster of real processes: coordinator with its own Redis, and workers. */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import sharp from "sharp";
import { stringify } from "yaml";
import type { Straggler } from "../../proto/gen/coordinator.ts";
import type { RecipeInput } from "../../proto/recipe.ts";
import type { TensorArray } from "../../worker/checkpoint/element-types.ts";
import { decodeSafetensors } from "../../worker/checkpoint/safetensors.ts";
import { Prng } from "./prng.ts";
import {
  COORDINATOR_MAIN,
  type Exit,
  startNode,
  type TestProcess,
  tempDir,
  WORKER_MAIN,
} from "./processes.ts";

export interface Cluster {
  /** HOST:PORT of the coordinator's gRPC. */
  readonly address: string;
  readonly http: string;
  readonly workDir: string;
  readonly coordinator: TestProcess;
  readonly workers: readonly TestProcess[];
  /** Starts `coordinator ARGS --coordinator ADDRESS`. */
  command(...args: string[]): TestProcess;
  /** Runs such a command to its end. */
  cli(...args: string[]): Promise<Exit>;
  /** The same with --json; fails unless it exits with 0. */
  json<T>(...args: string[]): Promise<T>;
  addWorkers(count: number, ...args: string[]): Promise<void>;
  close(): Promise<void>;
}

/** How the commands of a cluster are started, beside what every cluster of a test has. */
interface ClusterOptions {
  readonly coordinatorFlags?: readonly string[];
  /** Of each command: the coordinator, the workers, and those that ask the coordinator. */
  readonly flags?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

async function startCluster(dir: string, options: ClusterOptions): Promise<Cluster> {
  const { coordinatorFlags = [], flags = [], env = {} } = options;
  const workDir = path.join(dir, "work");
  const ports = ["--grpc-port", "0", "--http-port", "0"];
  const own = [...ports, "--state-dir", path.join(dir, "state"), "--json", ...coordinatorFlags];
  const coordinator = startNode([COORDINATOR_MAIN, "start", ...own, ...flags], { env });
  const [line] = await coordinator.output(/^\{.*\}$/m);
  const { grpc: address, http } = JSON.parse(line) as { grpc: string; http: string };
  const workers: TestProcess[] = [];
  const command = (...args: string[]): TestProcess =>
    startNode([COORDINATOR_MAIN, ...args, "--coordinator", address, ...flags], { env });
  const cli = (...args: string[]): Promise<Exit> => command(...args).exited();
  return {
    address,
    http,
    workDir,
    coordinator,
    workers,
    command,
    cli,
    async json<T>(...args: string[]) {
      const { code, stdout, stderr } = await cli(...args, "--json");
      assert.equal(code, 0, stderr);
      return JSON.parse(stdout) as T;
    },
    async addWorkers(count, ...args) {
      const commandLine = [
        ...[WORKER_MAIN, "start", "--coordinator", address, "--work-dir", workDir],
        ...["--engine", "tfjs:wasm", "--loader-threads", "1", "--connect-timeout", "60"],
        ...[...flags, ...args],
      ];
      const started = Array.from({ length: count }, () => startNode(commandLine, { env }));
      workers.push(...started);
      await Promise.all(started.map((worker) => worker.logged(/joined the fleet/)));
    },
    async close() {
      await Promise.all(workers.map((worker) => worker.end()));
      await coordinator.end();
    },
  };
}

/** What a suite of {@link useCluster} works with, from its `before` hooks on. */
export interface ClusterSuite {
  readonly cluster: Cluster;
  /** Temporary folder of the suite; the images are in `data/`. */
  readonly dir: string;
  readonly data: string;
  /** Submits a recipe and returns the experiment's id. */
  submit(recipe: RecipeInput): Promise<string>;
}

/** Gives the enclosing suite images, a coordinator and workers, and ends them after it. */
export function useCluster(
  options: ClusterOptions & {
    readonly images: { readonly train: number; readonly val: number };
    readonly workers: number;
  },
): ClusterSuite {
  let cluster: Cluster | undefined;
  let temporary: { readonly dir: string; remove(): Promise<void> } | undefined;
  let recipes = 0;
  before(async () => {
    temporary = await tempDir();
    await writeImages(path.join(temporary.dir, "data"), options.images);
    cluster = await startCluster(temporary.dir, options);
    await cluster.addWorkers(options.workers);
  });
  after(async () => {
    await cluster?.close();
    await temporary?.remove();
  });
  return {
    get cluster() {
      assert.ok(cluster, "the cluster is there once the suite's tests run");
      return cluster;
    },
    get dir() {
      assert.ok(temporary, "the folder is there once the suite's tests run");
      return temporary.dir;
    },
    get data() {
      return path.join(this.dir, "data");
    },
    async submit(recipe) {
      recipes += 1;
      const file = path.join(this.dir, `recipe-${recipes}.yaml`);
      await writeFile(file, stringify(recipe));
      const { id } = await this.cluster.json<{ id: string }>("submit", file);
      return id;
    },
  };
}

/** Where a worker that was started with `--http-port 0` serves its metrics. */
export async function metricsPortOf(worker: TestProcess): Promise<number> {
  const [, port] = await worker.logged(/"event":"metrics are served","port":(\d+)/);
  return Number(port);
}

/** The worker that holds this rank of an experiment's gang. */
export async function processOfRank(
  cluster: Cluster,
  id: string,
  rank: number,
): Promise<TestProcess> {
  const members = await cluster.json<readonly ShownMember[]>("workers");
  const name = members.find((one) => one.experiment === id && one.rank === rank)?.name;
  const found = cluster.workers.find(({ pid }) => name?.endsWith(`:${pid}`));
  assert.ok(found, `rank ${rank} is ${name}`);
  return found;
}

interface ShownMember {
  readonly name: string;
  readonly experiment?: string;
  readonly rank?: number;
}

/** Watches an experiment until it is as wanted; fails when it ends otherwise or takes too long. */
export async function untilExperiment(
  cluster: Cluster,
  id: string,
  isWanted: (experiment: ShownExperiment) => boolean,
  deadlineMs: number,
): Promise<ShownExperiment> {
  const watching = cluster.command("watch", id, "--json");
  const late = setTimeout(() => watching.child.kill(), deadlineMs);
  let last: ShownExperiment | undefined;
  let line = "";
  const wanted = await new Promise<ShownExperiment | undefined>((resolve, reject) => {
    watching.child.stdout?.on("data", (text: string) => {
      const lines = `${line}${text}`.split("\n");
      line = lines.pop() ?? "";
      for (const each of lines) {
        last = JSON.parse(each) as ShownExperiment;
        if (isWanted(last)) return resolve(last);
      }
    });
    watching.exited().then(() => resolve(undefined), reject);
  });
  clearTimeout(late);
  const { stderr } = await watching.end();
  assert.ok(wanted, `${id} is ${last?.state}: ${last?.reason} ${stderr}`);
  return wanted;
}

export interface ShownExperiment {
  readonly id: string;
  readonly state: string;
  readonly stage: string;
  readonly reason: string;
  readonly generation: number;
  readonly errorCode?: string;
  /** Ids of the gang's members, in rank order. */
  readonly workers: readonly string[];
  readonly membershipChanges: number;
  readonly stragglers: readonly Straggler[];
  readonly progress?: {
    readonly step: number;
    readonly skippedImages: number;
    readonly checkpointStep?: number;
    readonly storageProblem?: string;
    readonly checkpointFailures: number;
  };
}

/**
 * Writes an ImageFolder of small JPEGs: stripes at a class's own angle, in colours of chance.
 *
 * @param counts images per class, for `train` and for `val`
 */
export async function writeImages(
  root: string,
  counts: { readonly train: number; readonly val: number },
  classes = 2,
): Promise<void> {
  const size = 20;
  for (const [split, count] of Object.entries(counts)) {
    for (let label = 0; label < classes; label++) {
      const folder = path.join(root, split, `class${label}`);
      await mkdir(folder, { recursive: true });
      for (let image = 0; image < count; image++) {
        const prng = new Prng(1000 * label + image + (split === "val" ? 500_000 : 0));
        const colours = [0, 1].map(() => [prng.int(0, 255), prng.int(0, 255), prng.int(0, 255)]);
        const angle = (Math.PI * label) / classes;
        const pixels = Uint8Array.from({ length: size * size * 3 }, (_, k) => {
          const at = Math.floor(k / 3);
          const along = (at % size) * Math.cos(angle) + Math.floor(at / size) * Math.sin(angle);
          return colours[Math.floor(along / 3) & 1]![k % 3]!;
        });
        await sharp(pixels, { raw: { width: size, height: size, channels: 3 } })
          .jpeg({ quality: 90 })
          .toFile(path.join(folder, `${String(image).padStart(3, "0")}.jpg`));
      }
    }
  }
}

/** A recipe that takes seconds; the parts given replace those of the same name. */
export function tinyRecipe(root: string, parts: Partial<RecipeInput>): RecipeInput {
  return {
    name: "tiny",
    model: { depth: 18, width: 0.0625, stem: "cifar", neck: { out: 16 } },
    data: { root, train: { path: "train" }, val: { path: "val" }, imageSize: 16 },
    pretrain: {
      workers: 1,
      batchPerWorker: 8,
      epochs: 1,
      optimizer: { type: "lars", lr: 0.3 },
    },
    linear: {
      name: "tiny-linear",
      workers: 1,
      batchPerWorker: 8,
      epochs: 1,
      classes: 2,
      optimizer: { type: "sgd", lr: 0.1 },
      validation: { resizeEdge: 16, batchPerWorker: 4 },
    },
    ...parts,
  };
}

export interface ScalarRow {
  readonly step: number;
  readonly loss?: number;
  readonly lr?: number;
  readonly all_reduce_s?: number;
  readonly all_reduce_hidden?: number;
  readonly "probe/batch_loss"?: number;
}

/** The training lines of a stage's scalars.jsonl. */
export function readScalars(
  cluster: Pick<Cluster, "workDir">,
  id: string,
  stage: string,
): ScalarRow[] {
  const text = readFileSync(path.join(cluster.workDir, id, stage, "scalars.jsonl"), "utf8");
  const rows = text.split("\n").filter((line) => line !== "");
  return rows.map((line) => JSON.parse(line) as ScalarRow).filter((row) => row.loss !== undefined);
}

/** The tensors of `file` in the newest checkpoint of a stage. */
export function readWeights(
  cluster: Pick<Cluster, "workDir">,
  id: string,
  stage: string,
  file = "model",
): Map<string, TensorArray> {
  const store = path.join(cluster.workDir, id, stage, "checkpoints");
  const newest = readdirSync(store).sort().at(-1);
  assert.ok(newest, `no checkpoint in ${store}`);
  const { tensors } = decodeSafetensors(
    readFileSync(path.join(store, newest, `${file}.safetensors`)),
  );
  return new Map([...tensors].map(([name, { data }]) => [name, data]));
}
