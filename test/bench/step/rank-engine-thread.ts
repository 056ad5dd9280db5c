/**
 * Entry of a rank's engine thread: as worker/train/engine-thread.ts, but for batches that are made
 * up and a log that is not written.
 */

import { parentPort, workerData } from "node:worker_threads";
import { FleetError } from "../../../proto/errors.ts";
import { connectGroup } from "../../../worker/collective/bridge.ts";
import { soloGroup } from "../../../worker/collective/process-group.ts";
import type { Engine } from "../../../worker/engine/engine.ts";
import { openEngine } from "../../../worker/engine/open-engine.ts";
import { pretrain } from "../../../worker/train/pretrain.ts";
import { ReplicaKeeper } from "../../../worker/train/replica.ts";
import type { StageContext } from "../../../worker/train/stage-context.ts";
import type { StageJob } from "../../../worker/train/stage-job.ts";
import { silentLog } from "../../../worker/train/stage-log.ts";
import { CheckClock } from "./check-costs.ts";
import type {
  RankFindings,
  RankThreadData,
  RankThreadJob,
  RankThreadMessage,
} from "./rank-messages.ts";
import { CHECKSUM_EVERY_STEPS, type StepSpec } from "./step-spec.ts";
import { syntheticBatches } from "./synthetic-batches.ts";

await serve(workerData as RankThreadData);

async function serve({ spec, profile }: RankThreadData): Promise<void> {
  try {
    const engine = await open(spec, profile);
    parentPort?.once("message", ({ job }: RankThreadJob) => run(engine, spec, job));
    send({ type: "ready", engine: engine.name, device: engine.device });
  } catch (thrown) {
    fail(thrown);
  }
}

async function open(spec: StepSpec, profile: boolean): Promise<Engine> {
  const { threads, precision } = spec;
  const { engine } = await openEngine(spec.engine, { threads, precision, profile });
  if (!profile || engine.takeProfile) return engine;
  engine.close();
  throw new FleetError("USAGE", `${engine.name} does not measure its operations: no --profile`);
}

function run(engine: Engine, spec: StepSpec, job: StageJob): void {
  try {
    send({ type: "done", findings: train(engine, spec, job) });
  } catch (thrown) {
    fail(thrown);
  }
}

/** @returns what the engine measured of its operations in the measured steps, and of the checks */
function train(engine: Engine, spec: StepSpec, job: StageJob): RankFindings {
  const checks = spec.checks ? new CheckClock(spec.warmup) : undefined;
  const group = job.group ? connectGroup(job.group) : soloGroup;
  const context: StageContext = {
    job,
    group,
    log: silentLog(),
    replicas: new ReplicaKeeper(),
    checkpoints: undefined,
    send: (message) => {
      if (message.type === "step") send(message);
    },
    ...(checks && { runCheck: checks.runCheck }),
  };
  const batches = syntheticBatches(spec, job.rank, (step) => {
    // What was measured until now belongs to the warm-up.
    if (step === spec.warmup) engine.takeProfile?.();
    checks?.beginStep();
  });
  pretrain(engine, context, batches);
  checks?.beginStep();
  const profile = engine.takeProfile?.() ?? [];
  group.barrier();
  return { profile, ...(checks && { checks: checks.costs(CHECKSUM_EVERY_STEPS) }) };
}

function send(message: RankThreadMessage): void {
  parentPort?.postMessage(message);
}

function fail(thrown: unknown): void {
  const error = FleetError.from(thrown);
  const isDefect = error.code === "UNEXPECTED" && thrown instanceof Error;
  const message = (isDefect ? thrown.stack : undefined) ?? error.message;
  send({ type: "failed", error: { ...error.toPlain(), message } });
}
