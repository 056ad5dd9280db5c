/** Learning rates at picked iterations, compared with mmengine's schedulers. */

import { FleetError } from "../../proto/errors.ts";
import type { ScheduleRecipe } from "../../proto/recipe.ts";
import { learningRateAt } from "../optim/learning-rate.ts";
import type { Deviations } from "./deviations.ts";
import type { SchedulesCase } from "./golden-folder.ts";

const TOLERANCE = 1e-9;

interface NamedSchedule {
  readonly schedule: ScheduleRecipe;
  readonly baseLr: number;
  readonly stepsPerEpoch: number;
}

const COSINE = { warmupStartFactor: 1e-4, decay: "cosine", decayPer: "epoch", minLr: 0 } as const;

/** The published recipes; iterations of the linear stage are counted in epochs. */
const SCHEDULES: Readonly<Record<string, NamedSchedule>> = {
  pretrain: { schedule: { ...COSINE, warmupEpochs: 10 }, baseLr: 4.8, stepsPerEpoch: 313 },
  linear: { schedule: { ...COSINE, warmupEpochs: 0 }, baseLr: 1.6, stepsPerEpoch: 1 },
};

/**
 * Schedules are named for stage and epochs, e.g. `pretrain200`.
 * @throws {FleetError} DATA_INVALID for another name
 */
export function runSchedulesCase(spec: SchedulesCase, deviations: Deviations): void {
  for (const [name, points] of Object.entries(spec)) {
    const match = /^([a-z]+)(\d+)$/.exec(name);
    const named = match && SCHEDULES[match[1]!];
    if (!named) throw new FleetError("DATA_INVALID", `${name} is no schedule that is known`);
    const { schedule, baseLr, stepsPerEpoch } = named;
    const length = { baseLr, epochs: Number(match[2]), stepsPerEpoch };
    for (const [step, expected] of points) {
      const actual = learningRateAt(schedule, length, step);
      const error = actual === expected ? 0 : Math.abs(actual - expected) / expected;
      deviations.add({ quantity: name, error, tolerance: TOLERANCE, where: `iteration ${step}` });
    }
  }
}
