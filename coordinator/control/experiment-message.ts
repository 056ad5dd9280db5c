/** Experiments and workers in the wire's form, for operators. */

import type {
  ExperimentTransition,
  Progress,
  TimelineEvent,
  Experiment as WireExperiment,
  Straggler as WireStraggler,
  WorkerInfo,
} from "../../proto/gen/coordinator.ts";
import {
  type Experiment,
  gangOf,
  presentStage,
  reasonOf,
  type StageProgress,
} from "../experiment/experiment.ts";
import { historyOf, type StateChange, type TimelineEntry } from "../experiment/timeline.ts";
import type { Member } from "../member/member.ts";
import type { Scheduler } from "../scheduling/scheduler.ts";
import { toWireDedication } from "./dedication-message.ts";
import { toWireStage, toWireState } from "./wire-names.ts";

export interface ExperimentMessageOptions {
  /** Empty where it is left out. */
  readonly recipeJson: string;
  /** Lists leave it out. */
  readonly withHistory: boolean;
}

/** What is known of an experiment, its slow ranks included. */
export function describeExperiment(
  scheduler: Pick<Scheduler, "stragglers" | "nameOf">,
  experiment: Experiment,
  options: ExperimentMessageOptions,
): WireExperiment {
  const gang = gangOf(experiment);
  const stragglers = scheduler.stragglers(experiment).map((straggler): WireStraggler => {
    const workerId = gang[straggler.rank] ?? "";
    return { ...straggler, workerId, workerName: scheduler.nameOf(workerId) };
  });
  return toWireExperiment(experiment, stragglers, options);
}

function toWireExperiment(
  experiment: Experiment,
  stragglers: readonly WireStraggler[],
  { recipeJson, withHistory }: ExperimentMessageOptions,
): WireExperiment {
  const { phase, progress } = experiment;
  const { failure, preemption, membership } = experiment.restarts;
  return {
    experimentId: experiment.id,
    name: experiment.name,
    recipeName: experiment.recipeName,
    recipeJson,
    priority: experiment.priority,
    state: toWireState(phase.status),
    stage: toWireStage(presentStage(experiment).name),
    generation: experiment.generation,
    reason: reasonOf(experiment),
    submittedUnixMs: experiment.submittedUnixMs,
    startedUnixMs: experiment.startedUnixMs,
    finishedUnixMs: experiment.finishedUnixMs,
    progress: progress && toWireProgress(experiment, progress),
    workerIds: [...gangOf(experiment)],
    pretrainResultJson: experiment.results.pretrain,
    linearResultJson: experiment.results.linear,
    errorCode: phase.status === "failed" ? phase.code : undefined,
    restarts: failure + preemption + membership,
    failures: failure,
    preemptions: preemption,
    membershipChanges: membership,
    stragglers: [...stragglers],
    ranks: presentStage(experiment).ranks,
    history: withHistory ? historyOf(experiment.timeline).map(toWireTransition) : [],
  };
}

export function toWireWorker(member: Member, nowMs: number): WorkerInfo {
  const { facts } = member;
  const assignment = member.status === "busy" ? member.assignment : undefined;
  return {
    workerId: facts.id,
    name: facts.name,
    peerAddress: facts.peerAddress,
    engine: facts.engine,
    device: facts.device,
    threads: facts.threads,
    state: member.status,
    experimentId: assignment?.experimentId,
    rank: assignment?.rank,
    step: member.step,
    heartbeatAgeMs: Math.max(0, Math.round(nowMs - member.heardMs)),
    softwareVersion: facts.softwareVersion,
    rssBytes: member.rssBytes,
    draining: member.draining !== undefined && member.status !== "lost",
    ownStepSeconds: member.times?.ownStepSeconds,
    dedication: facts.dedication && toWireDedication(facts.dedication),
  };
}

function toWireProgress({ id, generation }: Experiment, progress: StageProgress): Progress {
  return {
    ...progress,
    experimentId: id,
    generation,
    stage: toWireStage(progress.stage),
    top1: progress.top1,
    top5: progress.top5,
    checkpointStep: progress.checkpointStep,
    allReduceSeconds: progress.allReduceSeconds,
    allReduceHidden: progress.allReduceHidden,
    lossBound: progress.lossBound,
    lossAtBound: progress.lossAtBound,
    knn: [...(progress.knn ?? [])],
    probeTop1: progress.probeTop1,
    probeTop5: progress.probeTop5,
    storageProblem: progress.storageProblem,
    checkpointFailures: progress.checkpointFailures ?? 0,
    trainingSeconds: progress.trainingSeconds,
  };
}

function toWireTransition(change: StateChange): ExperimentTransition {
  const { unixMs, from, to, stage, generation, message } = change;
  return {
    unixMs,
    from: toWireState(from),
    to: toWireState(to),
    stage: toWireStage(stage),
    generation,
    because: message,
  };
}

export function toWireEvent(entry: TimelineEntry): TimelineEvent {
  const { sequence, unixMs, type, generation, message } = entry;
  const stage = toWireStage(entry.stage);
  const nothing = { step: undefined, rank: undefined, workerId: undefined };
  const event = { sequence, unixMs, type, stage, generation, message, ...nothing };
  if (entry.type === "state") {
    return { ...event, from: toWireState(entry.from), to: toWireState(entry.to) };
  }
  const { step, rank, worker: workerId } = entry;
  return { ...event, step, rank, workerId, from: undefined, to: undefined };
}
