/** What went wrong, what did it cost, and what would be lost now? */

import { type DashboardSpec, EXPERIMENT, type RowSpec } from "./dashboard-spec.ts";
import { CHOSEN, newest, ofStage } from "./queries.ts";

const PER_STAGE = "experiment, stage";
const STAGE_LEGEND = "{{experiment}} {{stage}}";

const NOW: RowSpec = {
  title: "Now",
  panels: [
    {
      title: "Coordinators that lead",
      description: "One, and never none for longer than a takeover.",
      unit: "short",
      look: "stat",
      goodFrom: 1,
      goodBelow: 2,
      alert: "SimclrCoordinatorWithoutLeader",
      queries: [{ expr: "sum(simclr_coordinator_leader)", legend: "leaders" }],
    },
    {
      title: "Lost workers",
      description: "Workers whose lease ran out within the last ten minutes.",
      unit: "short",
      look: "stat",
      goodBelow: 1,
      alert: "SimclrWorkerLost",
      queries: [{ expr: 'max(simclr_workers{state="lost"})', legend: "lost" }],
    },
    {
      title: "Redis answers",
      description: "Coordinators that reach Redis, of all that are scraped.",
      unit: "percentunit",
      look: "stat",
      goodFrom: 1,
      alert: "SimclrRedisUnreachable",
      queries: [{ expr: "avg(simclr_redis_up)", legend: "reach Redis" }],
    },
    {
      title: "Oldest of the newest checkpoints",
      description: "The most that any experiment at work would have to train again from disk.",
      unit: "s",
      look: "stat",
      goodBelow: 21_600,
      alert: "SimclrCheckpointStale",
      queries: [
        {
          expr: `max(time() - simclr_stage_checkpoint_timestamp_seconds{${CHOSEN}})`,
          legend: "age",
        },
      ],
    },
    {
      title: "Alerts",
      description: "Alerts of `deploy/prometheus/alerts.yml` that are pending or firing.",
      unit: "short",
      look: "stacked",
      width: 24,
      min: 0,
      queries: [
        {
          expr: 'count by (alertname, alertstate) (ALERTS{alertname=~"Simclr.+"})',
          legend: "{{alertname}} {{alertstate}}",
        },
      ],
    },
  ],
};

const GANGS: RowSpec = {
  title: "Gangs that broke up",
  panels: [
    {
      title: "Generations",
      description: "Rises whenever a gang is formed anew. The numbers are of the whole fleet.",
      unit: "short",
      queries: [ofStage("generation")],
    },
    {
      title: "Restarts by reason",
      description:
        "Of unfinished experiments: after failures, preemptions (a worker got SIGTERM) and " +
        "changes of members. Only failures count against `elastic.maxRestarts`.",
      unit: "short",
      min: 0,
      alert: "SimclrRestartsInARow",
      queries: [
        {
          expr: newest("experiment, reason", `simclr_experiment_restarts_total{${CHOSEN}}`),
          legend: "{{experiment}} {{reason}}",
        },
      ],
    },
    {
      title: "Lost steps",
      description: "Steps of unfinished experiments that had to be taken again after restarts.",
      unit: "short",
      min: 0,
      queries: [
        {
          expr: newest("experiment", `simclr_experiment_lost_steps_total{${CHOSEN}}`),
          legend: "{{experiment}}",
        },
      ],
    },
    {
      title: "Time that went into no step",
      description:
        "Of unfinished experiments since their first gang, pauses left out: waiting for workers, " +
        "forming gangs, validation, steps taken again.",
      unit: "s",
      min: 0,
      alert: "SimclrGoodputLow",
      queries: [
        {
          expr: newest(
            "experiment",
            `simclr_experiment_wall_seconds_total{${CHOSEN}} - ` +
              `simclr_experiment_productive_seconds_total{${CHOSEN}}`,
          ),
          legend: "{{experiment}}",
        },
      ],
    },
    {
      title: "Failures by error",
      description:
        "What members of gangs have reported since the coordinator started. LOSS_NOT_FINITE is " +
        "NaN; README.md explains each code.",
      unit: "short",
      min: 0,
      alert: "SimclrLossNotFinite",
      queries: [{ expr: "sum by (code) (simclr_failures_total) > 0", legend: "{{code}}" }],
    },
    {
      title: "Messages that were refused",
      description:
        "Connections, calls and messages that were not taken since the start, by the five " +
        "commonest reasons: of the coordinator, and of the workers among themselves.",
      unit: "short",
      min: 0,
      queries: [
        { expr: "topk(5, sum by (reason) (simclr_refused_messages_total))", legend: "{{reason}}" },
        {
          expr: "topk(5, sum by (reason) (simclr_worker_refused_peers_total))",
          legend: "by workers: {{reason}}",
        },
      ],
    },
  ],
};

const CHECKPOINTS: RowSpec = {
  title: "Checkpoints",
  panels: [
    {
      title: "Age of the newest checkpoint",
      description: "Time since it was durable. What came after it is in the workers' memory only.",
      unit: "s",
      min: 0,
      alert: "SimclrCheckpointStale",
      queries: [
        {
          expr: newest(PER_STAGE, `time() - simclr_stage_checkpoint_timestamp_seconds{${CHOSEN}}`),
          legend: STAGE_LEGEND,
        },
      ],
    },
    {
      title: "Steps that are not on disk",
      description: "What would be lost with all workers of the gang at once.",
      unit: "short",
      min: 0,
      queries: [
        {
          expr: newest(
            PER_STAGE,
            `simclr_stage_step{${CHOSEN}} - simclr_stage_checkpoint_step{${CHOSEN}}`,
          ),
          legend: STAGE_LEGEND,
        },
      ],
    },
    {
      title: "Time that a checkpoint takes",
      description: "Written beside the training, which stands still for the copy only.",
      unit: "s",
      min: 0,
      queries: [
        {
          expr: newest(PER_STAGE, `simclr_worker_checkpoint_seconds{${CHOSEN}}`),
          legend: `${STAGE_LEGEND} written`,
        },
        {
          expr: newest(PER_STAGE, `simclr_worker_checkpoint_copy_seconds{${CHOSEN}}`),
          legend: `${STAGE_LEGEND} copied`,
        },
      ],
    },
    {
      title: "Storage problems",
      description:
        "Checkpoints of the present generation that could not be written, and 1 while something " +
        "cannot be.",
      unit: "short",
      min: 0,
      alert: "SimclrStorageProblem",
      queries: [ofStage("checkpoint_failures", "failed"), ofStage("storage_problem", "problem")],
    },
  ],
};

const CONTROL: RowSpec = {
  title: "Coordinator",
  panels: [
    {
      title: "Leader",
      description: "1 for the coordinator that leads, 0 for those that stand by.",
      unit: "short",
      min: 0,
      max: 1,
      alert: "SimclrCoordinatorAbsent",
      queries: [{ expr: "simclr_coordinator_leader", legend: "{{instance}}" }],
    },
    {
      title: "Epoch",
      description: "Rises with each takeover.",
      unit: "short",
      queries: [{ expr: "max(simclr_coordinator_epoch)", legend: "epoch" }],
    },
    {
      title: "Heartbeat age",
      description: "Time since each worker was last heard of. Its lease ends after a few seconds.",
      unit: "s",
      min: 0,
      alert: "SimclrWorkerLost",
      queries: [
        { expr: newest("worker", "simclr_worker_heartbeat_age_seconds"), legend: "{{worker}}" },
      ],
    },
    {
      title: "Event loop of the coordinator",
      description: "Beyond half a lease workers' heartbeats wait unread.",
      unit: "s",
      min: 0,
      queries: [
        {
          expr: "nodejs_eventloop_lag_p99_seconds and on (job, instance) simclr_coordinator_leader",
          legend: "{{instance}} p99",
        },
      ],
    },
  ],
};

const REDIS: RowSpec = {
  title: "Redis",
  panels: [
    {
      title: "Reachable, and connections that had to be opened again",
      description: "Training goes on without Redis; submitting and takeovers do not.",
      unit: "short",
      min: 0,
      alert: "SimclrRedisUnreachable",
      queries: [
        { expr: "simclr_redis_up", legend: "{{instance}} reachable" },
        { expr: "simclr_redis_reconnects_total", legend: "{{instance}} opened again" },
      ],
    },
    {
      title: "Memory of Redis",
      description:
        "A maximum of 0 is none. With one, and another policy than noeviction, Redis would drop " +
        "experiments.",
      unit: "bytes",
      min: 0,
      queries: [
        { expr: "max(simclr_redis_memory_used_bytes)", legend: "used" },
        { expr: "max(simclr_redis_memory_max_bytes)", legend: "maximum" },
      ],
    },
    {
      title: "Keys that Redis has evicted",
      description: "Each of them may have been an experiment.",
      unit: "short",
      min: 0,
      alert: "SimclrRedisMayEvict",
      queries: [
        { expr: "max(simclr_redis_evicted_keys_total)", legend: "evicted" },
        { expr: "min(simclr_redis_noeviction)", legend: "policy is noeviction" },
      ],
    },
    {
      title: "Free space of the state folder",
      description: "Where a coordinator's own Redis keeps its data; empty with another Redis.",
      unit: "percentunit",
      min: 0,
      max: 1,
      alert: "SimclrDiskFilling",
      queries: [
        {
          expr: "simclr_coordinator_disk_free_bytes / simclr_coordinator_disk_size_bytes",
          legend: "{{instance}}",
        },
      ],
    },
  ],
};

export const RELIABILITY_DASHBOARD: DashboardSpec = {
  name: "reliability",
  title: "SimCLR fleet / Reliability",
  description: "Gangs that broke up, what that cost, checkpoints, and what all of it stands on.",
  variables: [EXPERIMENT],
  rows: [NOW, GANGS, CHECKPOINTS, CONTROL, REDIS],
};
