/** Is the fleet busy, and with what? */

import { type DashboardSpec, EXPERIMENT, type RowSpec } from "./dashboard-spec.ts";
import { CHOSEN, newest, ofStage, STAGE_PROGRESS } from "./queries.ts";

const NOW: RowSpec = {
  title: "Now",
  panels: [
    {
      title: "Workers at work",
      description: "Workers that hold a rank of a gang.",
      unit: "short",
      look: "stat",
      queries: [{ expr: 'max(simclr_workers{state="busy"})', legend: "busy" }],
    },
    {
      title: "Images per second, all experiments",
      description: "Source images that all gangs together train on in a second.",
      unit: "short",
      look: "stat",
      queries: [
        {
          expr: `sum(${newest("experiment, stage", "simclr_stage_images_per_second")})`,
          legend: "images/s",
        },
      ],
    },
    {
      title: "Goodput, all experiments",
      description:
        "Share of the time since each unfinished experiment first got a gang, pauses left out, " +
        "that went into steps which count. What is lost goes to waiting for workers, forming " +
        "gangs, validation, and steps taken again.",
      unit: "percentunit",
      look: "stat",
      min: 0,
      max: 1,
      goodFrom: 0.5,
      alert: "SimclrGoodputLow",
      queries: [
        {
          expr:
            `sum(${newest("experiment", "simclr_experiment_productive_seconds_total")}) / ` +
            `sum(${newest("experiment", "simclr_experiment_wall_seconds_total")})`,
          legend: "goodput",
        },
      ],
    },
    {
      title: "Longest wait in the queue",
      description: "How long the experiment that has waited longest has been waiting for workers.",
      unit: "s",
      look: "stat",
      alert: "SimclrQueueStuck",
      queries: [{ expr: "max(simclr_queue_oldest_wait_seconds)", legend: "longest wait" }],
    },
  ],
};

const WORKERS: RowSpec = {
  title: "Workers",
  panels: [
    {
      title: "Workers by state",
      description: "Idle ones can be given a rank; lost ones are forgotten after ten minutes.",
      unit: "short",
      look: "stacked",
      min: 0,
      alert: "SimclrWorkerLost",
      queries: [{ expr: newest("state", "simclr_workers"), legend: "{{state}}" }],
    },
    {
      title: "Workers by engine and device",
      description: "As the workers' own metrics tell; a gang is of one engine.",
      unit: "short",
      look: "stacked",
      min: 0,
      queries: [
        { expr: "count by (engine, device) (simclr_worker_info)", legend: "{{engine}} {{device}}" },
      ],
    },
    {
      title: "Workers of each gang",
      description: "How many a gang has, and how many it could use: one for each rank.",
      unit: "short",
      min: 0,
      alert: "SimclrFewerWorkers",
      queries: [
        {
          expr: newest("experiment, count", `simclr_stage_workers{${CHOSEN}}`),
          legend: "{{experiment}} {{count}}",
        },
      ],
    },
    {
      title: "Memory of each worker",
      description: "Resident memory of the worker processes.",
      unit: "bytes",
      min: 0,
      queries: [
        {
          expr: "process_resident_memory_bytes and on (job, instance) simclr_worker_info",
          legend: "{{instance}}",
        },
      ],
    },
  ],
};

const EXPERIMENTS: RowSpec = {
  title: "Experiments and their queue",
  panels: [
    {
      title: "Experiments by state",
      description: "All that the coordinator remembers, finished ones included.",
      unit: "short",
      look: "stacked",
      min: 0,
      queries: [{ expr: newest("state", "simclr_experiments"), legend: "{{state}}" }],
    },
    {
      title: "Jobs of the queue by state",
      description:
        "Stages in BullMQ. One that runs or waits for workers is `delayed`; `waiting-children` " +
        "waits for the stage before. `waiting` and `prioritized` pass in a moment.",
      unit: "short",
      look: "stacked",
      min: 0,
      queries: [{ expr: newest("state", "simclr_queue_jobs"), legend: "{{state}}" }],
    },
    {
      title: "Progress of stages",
      description: "Steps applied, of all steps of the stage.",
      unit: "percentunit",
      min: 0,
      max: 1,
      queries: [STAGE_PROGRESS],
    },
    {
      title: "Time left of stages",
      description: "At the present speed, validations and restarts not foreseen.",
      unit: "s",
      min: 0,
      queries: [ofStage("eta_seconds")],
    },
  ],
};

const THROUGHPUT: RowSpec = {
  title: "Throughput",
  panels: [
    {
      title: "Images per second",
      description: "Source images over the whole gang; running mean.",
      unit: "short",
      min: 0,
      queries: [ofStage("images_per_second")],
    },
    {
      title: "Goodput",
      description:
        "Share of the time that goes into steps which count, now. It dips with each validation " +
        "and each restart; waiting for workers makes it nothing.",
      unit: "percentunit",
      min: 0,
      max: 1,
      alert: "SimclrGoodputLow",
      queries: [
        {
          expr: newest(
            "experiment",
            `rate(simclr_experiment_productive_seconds_total{${CHOSEN}}[$__rate_interval]) / ` +
              `rate(simclr_experiment_wall_seconds_total{${CHOSEN}}[$__rate_interval])`,
          ),
          legend: "{{experiment}}",
        },
      ],
    },
  ],
};

const MACHINES: RowSpec = {
  title: "Machines",
  panels: [
    {
      title: "Free space of the work folders",
      description: "Where checkpoints and logs are written, as each worker sees it.",
      unit: "percentunit",
      min: 0,
      max: 1,
      alert: "SimclrDiskFilling",
      queries: [
        {
          expr: "simclr_worker_disk_free_bytes / simclr_worker_disk_size_bytes",
          legend: "{{instance}}",
        },
      ],
    },
    {
      title: "Processor time of workers",
      description: "Cores that each worker process keeps busy.",
      unit: "short",
      min: 0,
      queries: [
        {
          expr:
            "rate(process_cpu_seconds_total[$__rate_interval]) " +
            "and on (job, instance) simclr_worker_info",
          legend: "{{instance}}",
        },
      ],
    },
  ],
};

export const FLEET_DASHBOARD: DashboardSpec = {
  name: "fleet",
  title: "SimCLR fleet / Overview",
  description: "Workers, experiments, the queue, and how much of the time is put to use.",
  variables: [EXPERIMENT],
  rows: [NOW, WORKERS, EXPERIMENTS, THROUGHPUT, MACHINES],
};
