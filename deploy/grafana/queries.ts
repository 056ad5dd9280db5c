/** Queries that more than one dashboard asks, and what queries are made of. */

import type { PanelQuery } from "./dashboard-spec.ts";

/** Matches the experiments chosen. */
export const CHOSEN = 'experiment=~"$experiment"';

/** Coordinators that stand by have the same series; those of the leader are the larger ones. */
export function newest(by: string, series: string): string {
  return `max by (${by}) (${series})`;
}

/** A figure of each stage at work, as its rank 0 tells the coordinator. */
export function ofStage(figure: string, name = ""): PanelQuery {
  return {
    expr: newest("experiment, stage", `simclr_stage_${figure}{${CHOSEN}}`),
    legend: `{{experiment}} {{stage}} ${name}`.trimEnd(),
  };
}

/** Steps applied, of all steps of the stage. */
export const STAGE_PROGRESS: PanelQuery = {
  expr: newest("experiment, stage", `simclr_stage_step{${CHOSEN}} / simclr_stage_steps{${CHOSEN}}`),
  legend: "{{experiment}} {{stage}}",
};
