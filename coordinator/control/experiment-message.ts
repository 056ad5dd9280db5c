/** Experiments and workers in the wire's form, for operators. */

import type {
  ExperimentTransition,
  Progress,
  Experiment as WireExperiment,
  WorkerInfo,
} from "../../proto/gen/coordinator.ts";
import {
  type Experiment,
  gangOf,
  presentStage,
  reasonOf,
  type StageProgress,
  type Transition,
} from "../experiment/experiment.ts";
import type { Member } from "../member/member.ts";
import { toWireStage, toWireState } from "./wire-names.ts";

export interface ExperimentMessageOptions {
  readonly recipeJson: string;
  /** Lists leave it out. */
  readonly withHistory: boolean;
}

export function toWireExperiment(
  experiment: Experiment,
  { recipeJson, withHistory }: ExperimentMessageOptions,
): WireExperiment {
  const { phase, progress } = experiment;
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
    restarts: experiment.restarts,
    failures: 0,
    preemptions: 0,
    membershipChanges: 0,
    stragglers: [],
    ranks: presentStage(experiment).workers,
    history: withHistory ? experiment.history.map(toWireTransition) : [],
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
    draining: false,
    ownStepSeconds: undefined,
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
  };
}

function toWireTransition(transition: Transition): ExperimentTransition {
  const { unixMs, from, to, stage, generation, because } = transition;
  return {
    unixMs,
    from: toWireState(from),
    to: toWireState(to),
    stage: toWireStage(stage),
    generation,
    because,
  };
}
