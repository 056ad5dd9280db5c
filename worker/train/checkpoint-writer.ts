/** Checkpoints of a running stage: when rank 0 writes one, and how one is taken up again. */

import { performance } from "node:perf_hooks";
import { FleetError } from "../../proto/errors.ts";
import { inputOf } from "../../proto/model/input-view.ts";
import { readCheckpoint, saveCheckpoint } from "../checkpoint/checkpoint-store.ts";
import { naming } from "../checkpoint/naming.ts";
import type { ModelState, NamedTensors } from "../model/model-state.ts";
import { checkpointStore, type StageContext } from "./stage-context.ts";

/** A model whose state can be copied out and in. */
export interface Trained {
  exportState(): ModelState;
  exportVelocities(): NamedTensors;
  importState(state: ModelState): void;
  importVelocities(velocities: NamedTensors): void;
}

/** What a checkpoint carries beside the model, so that results do not depend on interruptions. */
export interface Beside {
  readonly scalars: Readonly<Record<string, number>>;
  /** Weights and momentum of the online probe. */
  readonly probe?: NamedTensors;
}

/**
 * Puts a checkpoint of the same stage into `model`.
 *
 * @returns what else it carries
 * @throws {FleetError} CHECKPOINT_INVALID naming the folder and what does not fit
 */
export function restoreCheckpoint(folder: string, model: Trained): Beside {
  const { manifest, model: tensors, optimizer, probe } = readCheckpoint(folder);
  naming(folder, () => {
    model.importState({ tensors, batchesTracked: manifest.batchesTracked });
    model.importVelocities(optimizer);
  });
  return { scalars: manifest.scalars, ...(probe && { probe }) };
}

/** Decides when rank 0 writes a checkpoint, and writes it. */
export class CheckpointWriter {
  readonly #context: StageContext;
  readonly #stepsPerEpoch: number;
  readonly #model: Trained;
  #savedStep: number | undefined;

  constructor(context: StageContext, stepsPerEpoch: number, model: Trained) {
    this.#context = context;
    this.#stepsPerEpoch = stepsPerEpoch;
    this.#model = model;
    this.#savedStep = context.job.source.type === "checkpoint" ? context.job.startStep : undefined;
  }

  /** Writes one when `step` ends an epoch or an interval that asks for it. */
  afterStep(step: number, stepsTotal: number, beside: () => Beside): void {
    const { everyEpochs, everySteps } = this.#recipe.checkpoint;
    const isDue =
      step === stepsTotal ||
      step % (everyEpochs * this.#stepsPerEpoch) === 0 ||
      (everySteps !== undefined && step % everySteps === 0);
    if (isDue) this.save(step, beside);
  }

  /**
   * Writes a checkpoint of `step`, unless this is not rank 0 or it exists already.
   *
   * @throws {FleetError} STORAGE_FAILED; LOSS_NOT_FINITE when a weight is NaN or infinite, so that
   *   such a state never replaces a good checkpoint
   */
  save(step: number, beside: () => Beside): void {
    const { job, send } = this.#context;
    if (job.rank !== 0 || step === 0 || this.#savedStep === step) return;
    const started = performance.now();
    const { tensors, batchesTracked } = this.#model.exportState();
    assertFinite(tensors, step);
    const { scalars, probe } = beside();
    saveCheckpoint(
      checkpointStore(job.folder),
      {
        model: tensors,
        optimizer: this.#model.exportVelocities(),
        ...(probe && { probe }),
        manifest: {
          format: "simclr-fleet/checkpoint/1",
          experimentId: job.experimentId,
          recipe: job.recipe.name,
          stage: job.stage,
          step,
          epoch: step / this.#stepsPerEpoch,
          seed: job.recipe.seed,
          worldSize: job.worldSize,
          batchesTracked,
          scalars,
          model: job.recipe.model,
          input: inputOf(job.recipe),
          ...(job.stage === "linear" ? { classes: job.classes } : {}),
          createdAt: new Date().toISOString(),
        },
      },
      this.#recipe.checkpoint.keep,
    );
    this.#savedStep = step;
    send({ type: "checkpoint", step, seconds: (performance.now() - started) / 1000 });
  }

  get #recipe() {
    return this.#context.job.recipe[this.#context.job.stage];
  }
}

function assertFinite(tensors: NamedTensors, step: number): void {
  for (const [name, { data }] of tensors) {
    if (data.every(Number.isFinite)) continue;
    throw new FleetError("LOSS_NOT_FINITE", `${name} is not finite after step ${step}`, { step });
  }
}
