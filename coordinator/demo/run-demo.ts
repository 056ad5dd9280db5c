/**
 * The demo from start to end: one command, and nothing of it left running afterwards.
 *
 * Three things may end it early - a signal, a child process that dies, an experiment that fails -
 * and all of them lead through the same `finally`, which stops the cluster and waits for it.
 */

import assert from "node:assert/strict";
import { copyFile, readdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { readScalars } from "../../proto/charts/read-scalars.ts";
import { type CliContext, type Output, printJson } from "../../proto/cli/cli-context.ts";
import { FleetError } from "../../proto/errors.ts";
import { makeFolder } from "../../proto/make-folder.ts";
import { parseRecipe, type Recipe } from "../../proto/recipe.ts";
import { applyOverrides } from "../../proto/recipe-overrides.ts";
import { demo } from "../../proto/recipes/demo.ts";
import { PLAINTEXT } from "../../proto/transport.ts";
import { OperatorClient } from "../cli/operator-client.ts";
import { watchExperiment } from "../cli/watch.ts";
import { type ExperimentView, toView } from "../control/experiment-view.ts";
import { DEMO_SIZE, writeDataset } from "./dataset.ts";
import type { DemoOptions } from "./demo.ts";
import { CLUSTER_FOLDERS, LocalCluster } from "./local-cluster.ts";
import { writeLossCurve } from "./loss-curve.ts";
import { PATTERN_NAMES } from "./pattern.ts";
import {
  formatSummary,
  gainPoints,
  parseEvaluation,
  parsePretraining,
  type Summary,
} from "./summary.ts";

const DATA_FOLDER = "data";
const SCALARS = "scalars.jsonl";
const SIGNAL_EXITS = { SIGINT: 130, SIGTERM: 143 } as const;

const SILENT: Output = { write: () => {}, isTTY: false, columns: 80 };

interface Outcome {
  readonly summary: Omit<Summary, "seconds">;
  readonly lossCurve: { readonly svg: string; readonly png: string };
}

/** @throws {FleetError} of whatever went wrong; after a signal it returns */
export async function runDemo(options: DemoOptions, context: CliContext): Promise<void> {
  const startedMs = performance.now();
  const stopped = new Promise<keyof typeof SIGNAL_EXITS>((resolve) =>
    context.onStopSignal(resolve),
  );
  const recipe = demoRecipe(options);
  const folder = await makeEmptyFolder(options.dir ?? defaultFolder(new Date()));
  const { engine, seed, json, keep } = options;
  const { env } = context;
  const cluster = new LocalCluster({ folder, workers: recipe.pretrain.workers, engine, env });
  context.onExit(() => cluster.kill());

  const spoken = json ? { ...context, stdout: SILENT } : context;
  const demonstration = new Demonstration({ folder, recipe, cluster, context: spoken });
  const work = demonstration.run(seed);
  try {
    const end = await Promise.race([work, stopped, cluster.failed]);
    if (typeof end === "string") {
      spoken.stdout.write(`\n${end}: stopping\n`);
      context.setExitCode(SIGNAL_EXITS[end]);
    } else {
      const seconds = (performance.now() - startedMs) / 1_000;
      await report(context, options, folder, { ...end.summary, seconds }, end.lossCurve);
    }
  } catch (thrown) {
    const { code, message, detail } = FleetError.from(thrown);
    const logs = path.join(folder, CLUSTER_FOLDERS.logs);
    throw new FleetError(code, `${message} (logs: ${logs})`, detail, thrown);
  } finally {
    demonstration.close();
    await cluster.stop();
    // With the cluster gone it ends, if it has not yet; its error would be about that.
    await work.catch(() => {});
  }
  if (!keep) await removeBulk(folder);
}

/** The steps that lead to the figures. Whatever runs meanwhile may end them early. */
class Demonstration {
  readonly #folder: string;
  readonly #recipe: Recipe;
  readonly #cluster: LocalCluster;
  readonly #context: CliContext;
  #client: OperatorClient | undefined;

  constructor(parts: {
    readonly folder: string;
    readonly recipe: Recipe;
    readonly cluster: LocalCluster;
    readonly context: CliContext;
  }) {
    this.#folder = parts.folder;
    this.#recipe = withDataRoot(parts.recipe, path.join(parts.folder, DATA_FOLDER));
    this.#cluster = parts.cluster;
    this.#context = parts.context;
  }

  async run(seed: number): Promise<Outcome> {
    const { workers } = this.#recipe.pretrain;
    const count = PATTERN_NAMES.length * (DEMO_SIZE.trainPerClass + DEMO_SIZE.valPerClass);
    this.#say(`starting Redis, a coordinator and ${workers} workers; drawing ${count} images`);
    // Both are waited for even when one fails: nothing may still be writing when this ends.
    const [cluster, images] = await Promise.allSettled([
      this.#cluster.start(),
      writeDataset(this.#recipe.data.root, seed, DEMO_SIZE),
    ]);
    if (cluster.status === "rejected") throw cluster.reason;
    if (images.status === "rejected") throw images.reason;
    // Whatever is set here, the cluster's processes have it from here.
    const joinToken = this.#context.env["SIMCLR_JOIN_TOKEN"] ?? "";
    this.#client = new OperatorClient(cluster.value.grpc, PLAINTEXT, joinToken);
    this.#say(`to be seen on ${cluster.value.http} meanwhile`);

    this.#say("\n1. pre-training without labels, then a linear classifier on top");
    const trained = await this.#runExperiment(this.#recipe);
    this.#say("\n2. the same classifier on the random backbone");
    const drawn = await this.#runExperiment(withRandomBackbone(this.#recipe));

    const lossCurve = await this.#drawLossCurve(trained.id);
    const summary = {
      pretrain: parsePretraining(trained.results.pretrain),
      linear: parseEvaluation(trained.results.linear),
      random: parseEvaluation(drawn.results.linear),
      classes: this.#recipe.linear.classes,
    };
    return { summary, lossCurve };
  }

  /** Lets a run under way fail at once instead of waiting for its coordinator. */
  close(): void {
    this.#client?.close();
  }

  async #runExperiment(recipe: Recipe): Promise<ExperimentView> {
    const client = this.#client;
    assert.ok(client, "the cluster has started");
    const recipeJson = JSON.stringify(recipe);
    const id = await client.submit({ recipeJson, priority: 0, name: "" });
    await watchExperiment(this.#context, client, id, { json: false });
    return toView(await client.get(id));
  }

  async #drawLossCurve(experimentId: string): Promise<Outcome["lossCurve"]> {
    const { model, pretrain } = this.#recipe;
    const stage = path.join(this.#folder, CLUSTER_FOLDERS.runs, experimentId, "pretrain");
    await copyFile(path.join(stage, SCALARS), path.join(this.#folder, SCALARS));
    const { rows } = await readScalars(path.join(stage, SCALARS));
    return await writeLossCurve(this.#folder, {
      title: "SimCLR pre-training on the demo's images",
      subtitle:
        `ResNet-${model.depth} x ${model.width}, ${pretrain.workers} workers x ` +
        `${pretrain.batchPerWorker} images, temperature ${pretrain.temperature}`,
      rows,
      globalBatch: pretrain.workers * pretrain.batchPerWorker,
    });
  }

  #say(line: string): void {
    this.#context.stdout.write(`${line}\n`);
  }
}

async function report(
  context: CliContext,
  { json }: DemoOptions,
  folder: string,
  summary: Summary,
  lossCurve: Outcome["lossCurve"],
): Promise<void> {
  const figures = { folder, ...summary, gainPoints: gainPoints(summary), lossCurve };
  await writeFile(path.join(folder, "summary.json"), `${JSON.stringify(figures, null, 2)}\n`);
  if (json) return printJson(context, figures);
  const files = `\nloss curve: ${lossCurve.svg}\n            ${lossCurve.png}\n`;
  context.stdout.write(`\n${formatSummary(summary)}${files}`);
}

/** @throws {FleetError} RECIPE_INVALID for a bad --set */
function demoRecipe({ seed, set }: DemoOptions): Recipe {
  return parseRecipe(applyOverrides({ ...demo, seed }, set), () => "--set");
}

function withDataRoot(recipe: Recipe, root: string): Recipe {
  return { ...recipe, data: { ...recipe.data, root } };
}

function withRandomBackbone(recipe: Recipe): Recipe {
  return { ...recipe, stages: ["linear"], linear: { ...recipe.linear, init: "random" } };
}

function defaultFolder(now: Date): string {
  const stamp = now.toISOString().slice(0, 19).replaceAll(/[-:]/g, "").replace("T", "-");
  return path.join("work_dirs", `demo-${stamp}`);
}

/** @throws {FleetError} USAGE when there is something in it, STORAGE_FAILED */
async function makeEmptyFolder(folder: string): Promise<string> {
  const absolute = path.resolve(folder);
  let entries: readonly string[];
  try {
    makeFolder(absolute);
    entries = await readdir(absolute);
  } catch (cause) {
    const reason = FleetError.from(cause).message;
    throw new FleetError("STORAGE_FAILED", `cannot make ${absolute}: ${reason}`, {}, cause);
  }
  if (entries.length > 0) {
    throw new FleetError("USAGE", `${absolute} is not empty; give --dir a new or empty folder`);
  }
  return absolute;
}

/** Leaves the logs, the scalars, the figures and the curve. */
async function removeBulk(folder: string): Promise<void> {
  const { state, runs } = CLUSTER_FOLDERS;
  for (const bulk of [DATA_FOLDER, state, runs]) {
    await rm(path.join(folder, bulk), { recursive: true, force: true });
  }
}
