/** How far an experiment has come: by its ranks' own logs, and by what the coordinator says. */

import { randomUUID } from "node:crypto";
import { closeSync, existsSync, fstatSync, openSync, readdirSync, readSync } from "node:fs";
import path from "node:path";
import {
  type ExperimentView,
  toView,
  toWorkerView,
} from "../../coordinator/control/experiment-view.ts";
import type { StageName } from "../../proto/recipe.ts";
import type { SampleLine } from "../../worker/train/sample-log.ts";
import { ask, order } from "./ask-coordinator.ts";
import type { ChaosCluster, Coordinator } from "./chaos-cluster.ts";

export const STAGES: readonly StageName[] = ["pretrain", "linear"];

/** The newest step that any rank has applied; before the first one `step` is 0. */
export interface Position {
  readonly stage: StageName;
  readonly generation: number;
  readonly step: number;
}

export function isBeyond(position: Position, other: Position): boolean {
  const stages = STAGES.indexOf(position.stage) - STAGES.indexOf(other.stage);
  return stages > 0 || (stages === 0 && position.step > other.step);
}

/** What the coordinator says of an experiment and of the fleet; undefined while none answers. */
export interface Account {
  readonly experiment: ExperimentView;
  /** Name and state of the workers that are not lost. */
  readonly workers: readonly { readonly name: string; readonly isBusy: boolean }[];
}

/** Reads the sample logs of one experiment as they grow: needs nobody to be alive. */
export class TrainingWatch {
  readonly id: string;
  readonly #cluster: ChaosCluster;
  readonly #logs = new Map<string, GrowingFile>();
  #position: Position = { stage: "pretrain", generation: 0, step: 0 };

  constructor(cluster: ChaosCluster, id: string) {
    this.#cluster = cluster;
    this.id = id;
  }

  position(): Position {
    for (const stage of STAGES) {
      const folder = path.join(this.#cluster.workDir, this.id, stage);
      if (!existsSync(folder)) continue;
      for (const name of readdirSync(folder).filter((each) => each.startsWith("samples-"))) {
        this.#read(stage, path.join(folder, name));
      }
    }
    return this.#position;
  }

  async account(): Promise<Account | undefined> {
    return await ask(this.#cluster, async (client) => {
      const [experiment, workers] = await Promise.all([client.get(this.id), client.workers()]);
      const present = workers.map(toWorkerView).filter(({ state }) => state !== "lost");
      return {
        experiment: toView(experiment),
        workers: present.map(({ name, state }) => ({ name, isBusy: state === "busy" })),
      };
    });
  }

  /** The coordinator that answers. */
  async leader(): Promise<Coordinator | undefined> {
    return await ask(this.#cluster, async (client, coordinator) => {
      await client.get(this.id);
      return coordinator;
    });
  }

  #read(stage: StageName, file: string): void {
    const log = this.#logs.get(file) ?? new GrowingFile(file);
    this.#logs.set(file, log);
    for (const line of log.newLines()) {
      const { generation, step } = JSON.parse(line) as SampleLine;
      const next = { stage, generation, step };
      const isNewer = generation > this.#position.generation || isBeyond(next, this.#position);
      if (isNewer) this.#position = next;
    }
  }
}

/** Submits a recipe. @returns the experiment's id */
export async function submit(cluster: ChaosCluster, recipe: object): Promise<string> {
  const request = { recipeJson: JSON.stringify(recipe), priority: 0, name: "" };
  const requestId = randomUUID();
  const { id } = await order(cluster, async (client) => ({
    id: await client.submit(request, requestId),
  }));
  return id;
}

class GrowingFile {
  readonly #file: string;
  #offset = 0;
  #rest = "";

  constructor(file: string) {
    this.#file = file;
  }

  /** Whole lines that came since the last call. */
  newLines(): readonly string[] {
    const descriptor = openSync(this.#file, "r");
    try {
      const bytes = Buffer.alloc(fstatSync(descriptor).size - this.#offset);
      this.#offset += readSync(descriptor, bytes, 0, bytes.length, this.#offset);
      const lines = `${this.#rest}${bytes.toString("utf8")}`.split("\n");
      this.#rest = lines.pop() ?? "";
      return lines;
    } finally {
      closeSync(descriptor);
    }
  }
}
