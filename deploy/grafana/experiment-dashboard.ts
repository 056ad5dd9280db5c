/** Does an experiment learn, how fast is it, and where does its time go? */

import {
  type DashboardSpec,
  EXPERIMENT,
  type PanelQuery,
  type RowSpec,
  type VariableSpec,
} from "./dashboard-spec.ts";
import { CHOSEN, newest, ofStage, STAGE_PROGRESS } from "./queries.ts";

const RANK: VariableSpec = {
  name: "rank",
  label: "Rank",
  description: "Ranks of the gangs shown.",
  series: 'simclr_rank_step_seconds{experiment=~"$experiment"}',
};
const CHOSEN_RANKS = `${CHOSEN}, rank=~"$rank"`;
const PER_RANK = "experiment, rank";
const RANK_LEGEND = "{{experiment}} rank {{rank}}";

/** How fast a worker's counter rises, by rank. */
function rateOf(counter: string, labels = ""): string {
  const series = `simclr_worker_${counter}{${CHOSEN_RANKS}${labels}}`;
  return `sum by (${PER_RANK}) (rate(${series}[$__rate_interval]))`;
}

function byRank(expr: string): PanelQuery {
  return { expr, legend: RANK_LEGEND };
}

/** Of the time that steps take, the share that goes to something. */
function shareOfSteps(counter: string, labels = ""): PanelQuery {
  return byRank(`${rateOf(counter, labels)} / ${rateOf("step_seconds_sum")}`);
}

/** Of the steps within the rate interval, over the ranks shown. */
function stepQuantile(quantile: number): PanelQuery {
  const buckets = `rate(simclr_worker_step_seconds_bucket{${CHOSEN_RANKS}}[$__rate_interval])`;
  return {
    expr: `histogram_quantile(${quantile}, sum by (experiment, le) (${buckets}))`,
    legend: `{{experiment}} p${100 * quantile}`,
  };
}

const NOW: RowSpec = {
  title: "Now",
  panels: [
    {
      title: "Progress",
      description: "Steps applied, of all steps of the present stage.",
      unit: "percentunit",
      look: "stat",
      min: 0,
      max: 1,
      alert: "SimclrNoStepProgress",
      queries: [STAGE_PROGRESS],
    },
    {
      title: "Time left",
      description: "Of the present stage, at the present speed.",
      unit: "s",
      look: "stat",
      queries: [ofStage("eta_seconds")],
    },
    {
      title: "Images per second",
      description: "Source images over the whole gang; running mean.",
      unit: "short",
      look: "stat",
      queries: [ofStage("images_per_second")],
    },
    {
      title: "Goodput",
      description:
        "Share of the time since the first gang, pauses left out, that went into steps which " +
        "count.",
      unit: "percentunit",
      look: "stat",
      min: 0,
      max: 1,
      goodFrom: 0.5,
      alert: "SimclrGoodputLow",
      queries: [
        {
          expr: newest(
            "experiment",
            `simclr_experiment_productive_seconds_total{${CHOSEN}} / ` +
              `simclr_experiment_wall_seconds_total{${CHOSEN}}`,
          ),
          legend: "{{experiment}}",
        },
      ],
    },
  ],
};

const LEARNING: RowSpec = {
  title: "Does it learn?",
  panels: [
    {
      title: "Loss and its bound",
      description:
        "Pre-training whose loss stays near ln(2N - 1), N images a step, has learned next to " +
        "nothing: all pairs look alike. The linear stage has no bound.",
      unit: "short",
      alert: "SimclrLossAtBound",
      queries: [ofStage("loss", "loss"), ofStage("loss_bound", "bound")],
    },
    {
      title: "Learning rate",
      description: "Of the last step reported: warm-up, then the schedule of the recipe.",
      unit: "short",
      min: 0,
      queries: [ofStage("learning_rate")],
    },
    {
      title: "Quality of the features while they are trained",
      description:
        "Top-1 on the validation images: of the k nearest neighbours among training images, and " +
        "of the online probe. Only where the data have labels and the recipe asks for it.",
      unit: "percent",
      min: 0,
      max: 100,
      queries: [
        {
          expr: newest("experiment, k", `simclr_stage_knn_top1_percent{${CHOSEN}}`),
          legend: "{{experiment}} k-NN, k = {{k}}",
        },
        {
          expr: newest("experiment", `simclr_stage_probe_top1_percent{${CHOSEN}}`),
          legend: "{{experiment}} probe",
        },
      ],
    },
    {
      title: "Linear evaluation",
      description: "Accuracy of the linear classifier on the frozen backbone, per validation.",
      unit: "percent",
      min: 0,
      max: 100,
      queries: [ofStage("top1_percent", "top-1"), ofStage("top5_percent", "top-5")],
    },
  ],
};

const SPEED: RowSpec = {
  title: "How fast is it?",
  panels: [
    {
      title: "Images per second",
      description: "Source images that each rank trains on.",
      unit: "short",
      look: "stacked",
      min: 0,
      queries: [byRank(rateOf("images_total"))],
    },
    {
      title: "Step time",
      description: "Half of the steps are faster than p50, and all but one in twenty than p95.",
      unit: "s",
      min: 0,
      queries: [stepQuantile(0.5), stepQuantile(0.95)],
    },
    {
      title: "Step time by phase",
      description:
        "Mean over the ranks shown: waiting for data, forward, loss with its gathers, backward, " +
        "waiting for gradients to be reduced, update.",
      unit: "s",
      look: "stacked",
      width: 24,
      min: 0,
      queries: [
        {
          expr: ["sum", "count"]
            .map((part) => {
              const series = `simclr_worker_step_phase_seconds_${part}{${CHOSEN_RANKS}}`;
              return `sum by (experiment, phase) (rate(${series}[$__rate_interval]))`;
            })
            .join(" / "),
          legend: "{{experiment}} {{phase}}",
        },
      ],
    },
  ],
};

const COMMUNICATION: RowSpec = {
  title: "What does it cost to train together?",
  panels: [
    {
      title: "All-reduce bandwidth",
      description:
        "Bytes of gradients that each rank has summed per second of all-reduce. The traffic of a " +
        "ring is up to twice as much.",
      unit: "Bps",
      min: 0,
      queries: [
        byRank(`${rateOf("allreduce_bytes_total")} / ${rateOf("allreduce_seconds_total")}`),
      ],
    },
    {
      title: "All-reduce hidden by backward",
      description:
        "Share of the all-reduces' time for which the engine did not wait. Where it is low the " +
        "network is slow for this model: larger batches help, or `collective.wire: bf16`.",
      unit: "percentunit",
      min: 0,
      max: 1,
      queries: [
        byRank(newest(PER_RANK, `simclr_worker_allreduce_hidden_ratio{${CHOSEN_RANKS}}`)),
        ofStage("allreduce_hidden_ratio", "mean"),
      ],
    },
    {
      title: "Cost of synchronised batch norm",
      description:
        "Share of the steps' time in exchanges of batch statistics, waiting for slower ranks " +
        "included. Nothing without `pretrain.syncBatchNorm`.",
      unit: "percentunit",
      min: 0,
      queries: [shareOfSteps("syncbn_seconds_total")],
    },
    {
      title: "Waiting for other ranks",
      description: "Share of the steps' time that a rank is blocked in a collective of any kind.",
      unit: "percentunit",
      min: 0,
      max: 1,
      queries: [shareOfSteps("wait_seconds_sum")],
    },
  ],
};

const RANKS: RowSpec = {
  title: "Is one rank slower, or short of data?",
  panels: [
    {
      title: "Own step time of each rank",
      description:
        "Without waiting for other ranks: the slowest makes all of them slow. Running mean.",
      unit: "s",
      min: 0,
      alert: "SimclrStraggler",
      queries: [byRank(newest(PER_RANK, `simclr_rank_step_seconds{${CHOSEN_RANKS}}`))],
    },
    {
      title: "Stragglers",
      description:
        "Own step time over that of the other ranks, of those that are named: beyond the " +
        "recipe's `elastic.stragglerFactor`. Empty is good.",
      unit: "short",
      min: 1,
      alert: "SimclrStraggler",
      queries: [byRank(newest(PER_RANK, `simclr_stage_straggler_ratio{${CHOSEN_RANKS}}`))],
    },
    {
      title: "Data stalls",
      description:
        "Share of the steps' time that a rank waits for its loaders. Above a few percent: more " +
        "`--loader-threads`, or faster storage.",
      unit: "percentunit",
      min: 0,
      queries: [shareOfSteps("step_phase_seconds_sum", ', phase="data"')],
    },
    {
      title: "Images that could not be read",
      description: "Since the worker started; others were taken in their place.",
      unit: "short",
      min: 0,
      queries: [
        byRank(newest(PER_RANK, `simclr_worker_skipped_images_total{${CHOSEN_RANKS}}`)),
        ofStage("skipped_images", "rank 0 in this stage"),
      ],
    },
  ],
};

export const EXPERIMENT_DASHBOARD: DashboardSpec = {
  name: "experiment",
  title: "SimCLR fleet / Experiment",
  description: "Loss, accuracy, speed, and where the time of a step goes.",
  variables: [EXPERIMENT, RANK],
  rows: [NOW, LEARNING, SPEED, COMMUNICATION, RANKS],
};
