/**
 * One rank of a gang, in place of a worker's engine thread: trains a tiny model on made-up images,
 * with an engine that may break, and tells what its all-reduces carried.
 */

import {
  MessageChannel,
  type MessagePort,
  parentPort,
  receiveMessageOnPort,
  workerData,
} from "node:worker_threads";
import { FleetError, type PlainError } from "../../../proto/errors.ts";
import { LINK_WORDS, type SaveRequest } from "../../../worker/checkpoint/checkpoint-link.ts";
import { connectGroup } from "../../../worker/collective/bridge.ts";
import type { ProcessGroup, SharedFloats, Work } from "../../../worker/collective/process-group.ts";
import type { BatchReader } from "../../../worker/data/batch-reader.ts";
import { CheckpointSender } from "../../../worker/train/checkpoint-sender.ts";
import { linearEvaluation } from "../../../worker/train/linear.ts";
import { pretrain } from "../../../worker/train/pretrain.ts";
import { ReplicaKeeper } from "../../../worker/train/replica.ts";
import type { StageContext } from "../../../worker/train/stage-context.ts";
import type { StageJob } from "../../../worker/train/stage-job.ts";
import { silentLog } from "../../../worker/train/stage-log.ts";
import { Prng } from "../../support/prng.ts";
import { callsOf } from "../collective/calls-of.ts";
import { type Fault, FaultyEngine } from "./faulty-engine.ts";

export interface RankThreadData {
  readonly job: StageJob & { readonly group: NonNullable<StageJob["group"]> };
  readonly fault: Fault | undefined;
}

export interface RankThreadResult {
  /** Last finished step. */
  readonly step: number;
  /** All-reduces of this rank. */
  readonly reduces: number;
  /** Those that were given NaN or infinity, and those that came back with them. */
  readonly badGiven: number;
  readonly badTaken: number;
  /** Steps of which this rank would have a checkpoint written. */
  readonly saved: readonly number[];
  readonly error?: PlainError;
}

const STEPS = 6;

function runRank({ job, fault }: RankThreadData): RankThreadResult {
  const engine = new FaultyEngine(fault);
  const gang = connectGroup(job.group);
  const { port1, port2 } = new MessageChannel();
  const words = new Int32Array(new SharedArrayBuffer(4 * LINK_WORDS));
  const counts = { reduces: 0, badGiven: 0, badTaken: 0 };
  let step = 0;
  const context: StageContext = {
    job,
    group: counting(gang, counts),
    replicas: new ReplicaKeeper(),
    checkpoints: new CheckpointSender({ port: port1, words }),
    log: silentLog(),
    send: (message) => {
      if (message.type === "step") step = message.report.step;
    },
  };
  const views = job.stage === "pretrain" ? 2 : 1;
  const batches = madeUpBatches(job, views, (begun) => {
    engine.step = begun;
  });
  try {
    if (views === 2) pretrain(engine, context, batches);
    else linearEvaluation(engine, context, batches, { next: () => undefined, done: () => {} });
    return { step, ...counts, saved: savedSteps(port2) };
  } catch (thrown) {
    const error = FleetError.from(thrown).toPlain();
    return { step, ...counts, saved: savedSteps(port2), error };
  } finally {
    port1.close();
    gang.close();
  }
}

function savedSteps(port: MessagePort): readonly number[] {
  const next = receiveMessageOnPort(port);
  if (!next) return [];
  return [(next.message as SaveRequest).snapshot.manifest.step, ...savedSteps(port)];
}

function counting(
  group: ProcessGroup,
  counts: { reduces: number; badGiven: number; badTaken: number },
): ProcessGroup {
  const isBad = (values: Float32Array): boolean => !values.every(Number.isFinite);
  return Object.assign(callsOf(group), {
    allReduce(buffer: SharedFloats): Work {
      counts.reduces += 1;
      if (isBad(buffer)) counts.badGiven += 1;
      const work = group.allReduce(buffer);
      return {
        wait() {
          work.wait();
          if (isBad(buffer)) counts.badTaken += 1;
        },
      };
    },
  });
}

/** @param onStep hears the number of each step before its batch is handed out, from 1 */
function madeUpBatches(
  { recipe, rank, stage }: StageJob,
  views: 1 | 2,
  onStep: (step: number) => void,
): BatchReader {
  const count = recipe[stage].batchPerWorker;
  const pixels = new Uint8Array(
    new SharedArrayBuffer(count * views * 3 * recipe.data.imageSize ** 2),
  );
  const prng = new Prng(rank);
  const labels = new Int32Array(new SharedArrayBuffer(4 * count));
  labels.set(labels.map((_, image) => image % 2));
  let step = 0;
  return {
    next() {
      if (step === STEPS) return undefined;
      onStep(step + 1);
      for (let at = 0; at < pixels.length; at++) pixels[at] = prng.int(0, 255);
      const place = { step, epoch: 0, isLastOfEpoch: false };
      return { pixels, labels, indices: labels, count, views, ...place };
    },
    done() {
      step += 1;
    },
  };
}

parentPort?.postMessage(runRank(workerData as RankThreadData));
