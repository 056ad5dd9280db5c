/**
 * What a dashboard consists of, as data: rows of panels, panels of queries. How that looks in
 * Grafana's JSON is render-dashboard.ts's affair, the same for all.
 */

export interface PanelQuery {
  /** PromQL; may hold `$experiment`, `$rank`, `$__rate_interval`. */
  readonly expr: string;
  /** Names a series: text, with `{{label}}` for its labels. */
  readonly legend: string;
}

export interface PanelSpec {
  readonly title: string;
  /** What it shows and what to make of it, for people who see it for the first time. */
  readonly description: string;
  /** Grafana's id of the unit. */
  readonly unit: string;
  readonly queries: readonly PanelQuery[];
  /** Lines over time unless told otherwise; a stat is the present value in large figures. */
  readonly look?: "stat" | "stacked";
  /** In 24ths of the page. */
  readonly width?: 6 | 8 | 12 | 24;
  readonly min?: number;
  readonly max?: number;
  /** A stat is green between these, and red elsewhere. */
  readonly goodFrom?: number;
  readonly goodBelow?: number;
  /** The alert that watches over the same thing: the panel links to its runbook. */
  readonly alert?: string;
}

export interface RowSpec {
  readonly title: string;
  readonly panels: readonly PanelSpec[];
}

/** A list of label values to choose from; several or all of them can be chosen. */
export interface VariableSpec {
  readonly name: string;
  readonly label: string;
  readonly description: string;
  /** The values are those of `label` in the series that match. */
  readonly series: string;
}

export interface DashboardSpec {
  /** Also the name of its file. */
  readonly name: "fleet" | "experiment" | "reliability";
  readonly title: string;
  readonly description: string;
  readonly variables: readonly VariableSpec[];
  readonly rows: readonly RowSpec[];
}

/** Which experiments are shown; each dashboard has it. */
export const EXPERIMENT: VariableSpec = {
  name: "experiment",
  label: "Experiment",
  description: "Ids of experiments that had a gang in the time shown.",
  series: "simclr_stage_step",
};
