/**
 * Entry of the engine thread: loads the engine, then runs one stage after the other. While a stage
 * runs this thread is synchronous and blocks; only the shared control words reach it.
 */

import { parentPort, workerData } from "node:worker_threads";
import { FleetError } from "../../proto/errors.ts";
import { connectGroup } from "../collective/bridge.ts";
import { type ProcessGroup, soloGroup } from "../collective/process-group.ts";
import { type BatchReader, openBatches } from "../data/batch-reader.ts";
import type { Engine } from "../engine/engine.ts";
import { type EngineOptions, openEngine } from "../engine/open-engine.ts";
import { Tracer } from "../trace/tracer.ts";
import { CheckpointSender } from "./checkpoint-sender.ts";
import { linearEvaluation } from "./linear.ts";
import { pretrain } from "./pretrain.ts";
import { ReplicaKeeper } from "./replica.ts";
import { logSamples } from "./sample-log.ts";
import type { StageContext } from "./stage-context.ts";
import type { EngineThreadMessage, MainThreadMessage, StageJob, StageResult } from "./stage-job.ts";
import { openStageLog, silentLog } from "./stage-log.ts";

/** What the main thread starts this thread with. */
export interface EngineThreadData extends EngineOptions {
  readonly engine: string;
}

const port = parentPort;
if (port) await serve(workerData as EngineThreadData);

async function serve(options: EngineThreadData): Promise<void> {
  let engine: Engine;
  try {
    const opened = await openEngine(options.engine, options);
    engine = opened.engine;
    send({ type: "ready", name: engine.name, device: engine.device, notes: opened.notes });
  } catch (thrown) {
    send({ type: "unavailable", error: FleetError.from(thrown).toPlain() });
    return;
  }
  const replicas = new ReplicaKeeper();
  port?.on("message", (message: MainThreadMessage) => {
    if (message.type === "run") runStage(engine, message.job, replicas);
    else replicas.drop();
  });
}

function send(message: EngineThreadMessage): void {
  port?.postMessage(message);
}

function runStage(engine: Engine, job: StageJob, replicas: ReplicaKeeper): void {
  let step = job.startStep;
  const track = (message: EngineThreadMessage): void => {
    if (message.type === "step") step = message.report.step;
    send(message);
  };
  try {
    const result = runRank(engine, { job, replicas }, track);
    replicas.drop();
    send({ type: "finished", step: step, result });
  } catch (thrown) {
    const error = FleetError.from(thrown);
    const detail =
      error.code === "UNEXPECTED" && thrown instanceof Error ? thrown.stack : undefined;
    const message = detail ?? error.message;
    const replicaStep = replicas.find(job)?.step;
    send({ type: "stopped", step, replicaStep, error: { ...error.toPlain(), message } });
  }
}

type Task = Pick<StageContext, "job" | "replicas">;

function runRank(
  engine: Engine,
  task: Task,
  track: (message: EngineThreadMessage) => void,
): StageResult | undefined {
  const gang = task.job.group && connectGroup(task.job.group);
  try {
    return runInGroup(engine, task, gang ?? soloGroup, track);
  } finally {
    gang?.close();
  }
}

function runInGroup(
  engine: Engine,
  { job, replicas }: Task,
  group: ProcessGroup,
  track: (message: EngineThreadMessage) => void,
): StageResult | undefined {
  const log =
    job.rank === 0 ? openStageLog(job, (problem) => track({ type: "log", problem })) : silentLog();
  const checkpoints = job.checkpoints && new CheckpointSender(job.checkpoints);
  const tracer = openTracer(job, track);
  const context = { job, group, log, checkpoints, replicas, send: track, ...tracer };
  track({ type: "running" });
  const batches = openBatches(job.train);
  const train = job.logSamples ? logSamples(batches, job) : batches;
  const result = runSteps(engine, context, train);
  if (result) log.writeResult(result);
  // Nobody leaves before rank 0 has its result on disk.
  group.barrier();
  return result;
}

function runSteps(
  engine: Engine,
  context: StageContext,
  train: BatchReader,
): StageResult | undefined {
  const { validation } = context.job;
  try {
    return validation
      ? linearEvaluation(engine, context, train, openBatches(validation))
      : pretrain(engine, context, train);
  } finally {
    // Of a step that was given up, or of what followed the last.
    context.tracer?.flush();
  }
}

function openTracer(
  { traceSteps: steps }: StageJob,
  track: (message: EngineThreadMessage) => void,
): Pick<StageContext, "tracer"> {
  if (steps === 0) return {};
  return {
    tracer: new Tracer({
      steps,
      send: (spans, { isLast }) => track({ type: "trace", spans, isLast }),
    }),
  };
}
