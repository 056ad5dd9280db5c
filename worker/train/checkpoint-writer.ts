/** Checkpoints of a running stage: when rank 0 has one written, and how one is taken up again. */

import { inputOf } from "../../proto/model/input-view.ts";
import { readCheckpoint, type Snapshot } from "../checkpoint/checkpoint-store.ts";
import { naming } from "../checkpoint/naming.ts";
import type { Allocate, ModelState, NamedTensors } from "../model/model-state.ts";
import type { StageContext } from "./stage-context.ts";

/** A model whose state can be copied out, into memory that is given, and in. */
export interface Trained {
  exportState(allocate?: Allocate): ModelState;
  exportVelocities(allocate?: Allocate): NamedTensors;
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

/** Decides when rank 0 writes a checkpoint, and has it written. */
export class CheckpointWriter {
  readonly #context: StageContext;
  readonly #stepsPerEpoch: number;
  readonly #model: Trained;
  /** Step of the newest that was sent off, or read. */
  #sentStep: number | undefined;

  constructor(context: StageContext, stepsPerEpoch: number, model: Trained) {
    this.#context = context;
    this.#stepsPerEpoch = stepsPerEpoch;
    this.#model = model;
    this.#sentStep = context.job.source.type === "checkpoint" ? context.job.startStep : undefined;
  }

  /** Whether `step` ends an epoch or an interval that asks for a checkpoint; so on every rank. */
  isDue(step: number, stepsTotal: number): boolean {
    const { everyEpochs, everySteps } = this.#recipe.checkpoint;
    return (
      step === stepsTotal ||
      step % (everyEpochs * this.#stepsPerEpoch) === 0 ||
      (everySteps !== undefined && step % everySteps === 0)
    );
  }

  /**
   * Has one written when it is due.
   *
   * @throws {FleetError} what an earlier one was refused for: GENERATION_ABORTED when this rank is
   *   fenced off, LOSS_NOT_FINITE
   */
  afterStep(step: number, stepsTotal: number, beside: (allocate: Allocate) => Beside): void {
    this.#context.checkpoints?.throwIfRefused();
    if (this.isDue(step, stepsTotal)) this.save(step, beside, { isLast: step === stepsTotal });
  }

  /**
   * Copies the state after `step` and has it written, unless this is not rank 0 or that was done.
   * Returns when it is copied. Storage that fails is told to the main thread, not here.
   *
   * @param options.isLast whether the stage ends with it
   * @throws {FleetError} as {@link afterStep}
   */
  save(
    step: number,
    beside: (allocate: Allocate) => Beside,
    options: { readonly isLast: boolean },
  ): void {
    const { checkpoints } = this.#context;
    if (!checkpoints || step === 0 || this.#sentStep === step) return;
    checkpoints.send((allocate) => this.#copy(step, beside, allocate), options);
    this.#sentStep = step;
  }

  #copy(step: number, beside: (allocate: Allocate) => Beside, allocate: Allocate): Snapshot {
    const { job } = this.#context;
    const { tensors: model, batchesTracked } = this.#model.exportState(allocate);
    const optimizer = this.#model.exportVelocities(allocate);
    const { scalars, probe } = beside(allocate);
    return {
      model,
      optimizer,
      ...(probe && { probe }),
      manifest: {
        format: "simclr-fleet/checkpoint/1",
        experimentId: job.experimentId,
        recipe: job.recipe.name,
        stage: job.stage,
        step,
        epoch: step / this.#stepsPerEpoch,
        seed: job.recipe.seed,
        worldSize: this.#recipe.workers,
        generation: job.generation,
        batchesTracked,
        scalars,
        model: job.recipe.model,
        input: inputOf(job.recipe),
        ...(job.stage === "linear" ? { classes: job.classes } : {}),
        createdAt: new Date().toISOString(),
      },
    };
  }

  get #recipe() {
    return this.#context.job.recipe[this.#context.job.stage];
  }
}
