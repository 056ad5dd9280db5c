/** A view step by step: what each part of the augmentation adds to it. Pure. */

import type { Adjustment, ViewPlan } from "../data/augment/view.ts";

export interface ViewStage {
  /** The step, or that chance left it out, e.g. "no blur". */
  readonly caption: string;
  /** The view up to this step. */
  readonly plan: ViewPlan;
}

const ADJUSTMENTS: Readonly<Record<Adjustment["type"], "jitter" | "grayscale" | "blur">> = {
  brightness: "jitter",
  contrast: "jitter",
  saturation: "jitter",
  hue: "jitter",
  grayscale: "grayscale",
  blur: "blur",
};

/** Crop, flip, jitter, grayscale, blur. */
export function viewStages({ crop, flip, adjustments }: ViewPlan): readonly ViewStage[] {
  const stages: ViewStage[] = [
    { caption: "crop", plan: { crop, flip: false, adjustments: [] } },
    { caption: flip ? "flip" : "no flip", plan: { crop, flip, adjustments: [] } },
  ];
  let made: readonly Adjustment[] = [];
  for (const name of ["jitter", "grayscale", "blur"] as const) {
    const added = adjustments.filter(({ type }) => ADJUSTMENTS[type] === name);
    made = [...made, ...added];
    const caption = added.length > 0 ? name : `no ${name}`;
    stages.push({ caption, plan: { crop, flip, adjustments: made } });
  }
  return stages;
}
