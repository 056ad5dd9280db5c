/** Watches a stage's loss for ln(2N - 1), and says so when it comes there and when it leaves. */

import { type BoundState, lossBound, watchBound } from "../loss/bound-watch.ts";
import type { StageContext } from "./stage-context.ts";
import type { LossBound } from "./stage-job.ts";

/** Among a checkpoint's figures. */
const SHARE = "bound_share";
const REACHED = "bound_reached";

export class LossBoundWatch {
  readonly #context: StageContext;
  readonly #stepsPerEpoch: number;
  #state: BoundState | undefined;

  constructor(context: StageContext, stepsPerEpoch: number) {
    this.#context = context;
    this.#stepsPerEpoch = stepsPerEpoch;
  }

  /** Goes on from what {@link scalars} has put into a checkpoint. */
  restore(scalars: Readonly<Record<string, number>>): void {
    const share = scalars[SHARE];
    if (share !== undefined) this.#state = { share, isReached: scalars[REACHED] === 1 };
  }

  scalars(): Readonly<Record<string, number>> {
    const state = this.#state;
    return state ? { [SHARE]: state.share, [REACHED]: state.isReached ? 1 : 0 } : {};
  }

  /**
   * @param step counted from 1
   * @param images of the global batch
   */
  add(step: number, loss: number, images: number): LossBound {
    const { temperature } = this.#context.job.recipe.pretrain;
    const wasReached = this.#state?.isReached ?? false;
    const stepsPerEpoch = this.#stepsPerEpoch;
    this.#state = watchBound(this.#state, { loss, images, temperature, step, stepsPerEpoch });
    const bound = { value: lossBound(images), isReached: this.#state?.isReached ?? false };
    if (bound.isReached !== wasReached) this.#tell(step, bound);
    return bound;
  }

  #tell(step: number, { value, isReached }: LossBound): void {
    const { job, send } = this.#context;
    if (job.rank !== 0) return;
    const message = isReached
      ? `step ${step}: the loss stays near ln(2N - 1) = ${value.toFixed(3)}, where all pairs ` +
        "look alike: the embeddings have collapsed, or nothing has been learned yet; usual " +
        "causes are the learning rate, the temperature, augmentation that leaves two views " +
        "nothing in common, and a broken gather"
      : `step ${step}: the loss has left ln(2N - 1) = ${value.toFixed(3)}; that warning is over`;
    send({ type: "warning", message });
  }
}
