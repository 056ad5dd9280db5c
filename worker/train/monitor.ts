/**
 * Looks on while a model is pre-trained: an online probe in every step, and every few epochs an
 * evaluation by k nearest neighbours and by the probe. The model does not change by a bit.
 *
 * What it has found goes into checkpoints, with the probe: a resumed stage has the figures of one
 * that was never interrupted.
 */

import { performance } from "node:perf_hooks";
import { FleetError } from "../../proto/errors.ts";
import type { Allocate } from "../model/model-state.ts";
import { learningRateAt } from "../optim/learning-rate.ts";
import type { Beside } from "./checkpoint-writer.ts";
import { type Judged, judgeFeatures } from "./feature-judge.ts";
import { OnlineProbe } from "./online-probe.ts";
import type { Restored } from "./restore-state.ts";
import type { StageContext } from "./stage-context.ts";
import type { MonitorFigures, ProbeStep } from "./stage-job.ts";
import { broadcastTensors } from "./sync-state.ts";

/** Among a checkpoint's figures: the step of the newest evaluation, and its images. */
const STEP = "monitor_step";
const IMAGES = "monitor_images";

export interface MonitorOptions extends Omit<Judged, "context" | "probe"> {
  readonly context: StageContext;
  readonly stepsPerEpoch: number;
}

export class Monitor {
  readonly #options: MonitorOptions;
  readonly #probe: OnlineProbe | undefined;
  /** Step of the newest evaluation. */
  #step = 0;
  /** Its figures. */
  #figures: MonitorFigures | undefined;

  /** Called by all ranks. */
  constructor(options: MonitorOptions) {
    const { engine, context, monitor, model } = options;
    const { group, job } = context;
    const { probe: recipe } = job.recipe.pretrain.monitor;
    const { classes } = monitor;
    this.#options = options;
    this.#probe = recipe.enabled
      ? new OnlineProbe(engine, group, { features: model.features, classes, recipe })
      : undefined;
  }

  /**
   * Goes on from what an earlier generation has left, and makes up for an evaluation that was due
   * and not done. Called by all ranks.
   *
   * @param atStep the step that the stage goes on from
   */
  restore({ beside, root }: Restored, atStep: number): void {
    const step = beside.scalars[STEP] ?? 0;
    this.#step = step;
    if (step > 0) this.#show(this.#figuresOf(beside.scalars, step), 0);
    if (this.#probe) this.#restoreProbe(this.#probe, beside.probe, root);
    this.evaluate(atStep);
  }

  /** First half of a step; see {@link OnlineProbe.backward}. */
  backward(...batch: Parameters<OnlineProbe["backward"]>): void {
    this.#probe?.backward(...batch);
  }

  /** Waits for what the ranks have to tell one another; see {@link OnlineProbe.finish}. */
  finish(): void {
    this.#probe?.finish();
  }

  /** Second half of a step, counted from 0, after {@link finish}. */
  update(step: number): ProbeStep | undefined {
    const { stepsPerEpoch, context } = this.#options;
    const { schedule, epochs, monitor } = context.job.recipe.pretrain;
    const length = { baseLr: monitor.probe.lr, epochs, stepsPerEpoch };
    return this.#probe?.update(learningRateAt(schedule, length, step));
  }

  /**
   * Evaluates the model after `step`, counted from 1, if it is due and has not been done yet.
   *
   * @throws {FleetError} GENERATION_ABORTED
   */
  evaluate(step: number): void {
    const { stepsPerEpoch, context } = this.#options;
    const { epochs, monitor } = context.job.recipe.pretrain;
    const isDue =
      step > 0 &&
      (step === epochs * stepsPerEpoch || step % (monitor.everyEpochs * stepsPerEpoch) === 0);
    if (!isDue || step === this.#step) return;
    const started = performance.now();
    const judged = judgeFeatures({ ...this.#options, probe: this.#probe });
    this.#step = step;
    const figures = { step, ...judged };
    const seconds = (performance.now() - started) / 1000;
    this.#show(figures, seconds);
    context.log.write({
      stage: "pretrain",
      epoch: step / stepsPerEpoch,
      step,
      ...columns(figures),
      validation_images: imagesOf(figures),
      monitor_seconds: Number(seconds.toFixed(3)),
    });
  }

  /** What a checkpoint has to carry. */
  beside(allocate?: Allocate): Beside {
    const figures = this.#figures;
    const images = figures && imagesOf(figures);
    const scalars = figures ? { ...columns(figures), [STEP]: this.#step, [IMAGES]: images! } : {};
    return { scalars, ...(this.#probe && { probe: this.#probe.exportState(allocate) }) };
  }

  /** For the stage's result. */
  result(): Readonly<Record<`knn/${string}` | `probe/${string}`, number>> {
    return this.#figures ? columns(this.#figures) : {};
  }

  #show(figures: MonitorFigures, seconds: number): void {
    this.#figures = figures;
    this.#options.context.send({ type: "monitored", figures, seconds });
  }

  /** Gives every rank the probe that `root` has; a checkpoint may be without, or not fit. */
  #restoreProbe(probe: OnlineProbe, state: Beside["probe"], root: number | undefined): void {
    const { group, send } = this.#options.context;
    try {
      if (state) probe.importState(state);
    } catch (thrown) {
      const { message } = FleetError.from(thrown);
      send({ type: "warning", message: `the online probe begins anew: ${message}` });
    }
    if (group.worldSize === 1 || root === undefined) return;
    const common = probe.exportState();
    broadcastTensors(group, common, root);
    probe.importState(common);
  }

  #figuresOf(scalars: Beside["scalars"], step: number): MonitorFigures {
    const images = scalars[IMAGES] ?? 0;
    const { neighbours } = this.#options.context.job.recipe.pretrain.monitor.knn;
    const knn = neighbours.flatMap((k) => {
      const [top1, top5] = [scalars[`knn/top1_k${k}`], scalars[`knn/top5_k${k}`]];
      return top1 === undefined || top5 === undefined
        ? []
        : [{ neighbours: k, top1, top5, images }];
    });
    const [top1, top5] = [scalars["probe/top1"], scalars["probe/top5"]];
    const hasProbe = top1 !== undefined && top5 !== undefined;
    return { step, knn, probe: hasProbe ? { top1, top5, images } : undefined };
  }
}

function columns({
  knn,
  probe,
}: MonitorFigures): Record<`knn/${string}` | `probe/${string}`, number> {
  const ofKnn = knn.flatMap(({ neighbours, top1, top5 }) => [
    [`knn/top1_k${neighbours}`, top1],
    [`knn/top5_k${neighbours}`, top5],
  ]);
  return {
    ...Object.fromEntries(ofKnn),
    ...(probe && { "probe/top1": probe.top1, "probe/top5": probe.top5 }),
  };
}

function imagesOf({ knn, probe }: MonitorFigures): number {
  return knn[0]?.images ?? probe?.images ?? 0;
}
