/** OperatorService: what people and scripts ask of the coordinator. */

import { setTimeout as delay } from "node:timers/promises";
import type { handleUnaryCall, ServerUnaryCall, sendUnaryData } from "@grpc/grpc-js";
import { FleetError } from "../../proto/errors.ts";
import type {
  DrainWorkerRequest,
  ListEventsRequest,
  OperatorServiceServer,
  Experiment as WireExperiment,
} from "../../proto/gen/coordinator.ts";
import { toServiceError } from "../../proto/grpc-errors.ts";
import type { Log } from "../../proto/log.ts";
import type { OperatorVerb } from "../experiment/experiment.ts";
import type { Member } from "../member/member.ts";
import type { Store } from "../store/store.ts";
import { changeExperiment } from "./change-experiment.ts";
import { describeExperiment, toWireEvent, toWireWorker } from "./experiment-message.ts";
import { findWorker } from "./find-worker.ts";
import { type ReadLogsOptions, readLogs } from "./read-logs.ts";
import { type SubmissionOptions, Submissions } from "./submissions.ts";
import { type WatchOptions, watchExperiment } from "./watch-experiment.ts";

const GATHERING_POLL_MS = 100;
const IN_LISTS = { recipeJson: "", withHistory: false } as const;

export interface OperatorServiceOptions extends WatchOptions, ReadLogsOptions, SubmissionOptions {
  readonly store: Pick<Store, "add" | "flush">;
  readonly log: Log;
  /** Whether workers of an earlier coordinator may still be on their way to this one. */
  readonly isGathering: () => boolean;
}

export function operatorService(options: OperatorServiceOptions): OperatorServiceServer {
  const { scheduler, store, clock, log } = options;
  const submissions = new Submissions(options);
  const answer = <Request, Response>(
    handle: (request: Request) => Response | Promise<Response>,
  ): handleUnaryCall<Request, Response> => unary(handle, log);

  const show = (id: string): WireExperiment =>
    describeExperiment(scheduler, scheduler.experiment(id), {
      recipeJson: scheduler.recipeJson(id),
      withHistory: true,
    });
  const change = async (type: OperatorVerb, experimentId: string): Promise<WireExperiment> => {
    await changeExperiment(type, experimentId, options);
    return show(experimentId);
  };

  return {
    submit: answer(async (request) => ({ experimentId: await submissions.take(request) })),
    listExperiments: answer(() => ({
      experiments: scheduler
        .experiments()
        .map((experiment) => describeExperiment(scheduler, experiment, IN_LISTS)),
    })),
    getExperiment: answer(({ experimentId }) => show(experimentId)),
    cancelExperiment: answer(({ experimentId }) => change("cancel", experimentId)),
    retryExperiment: answer(({ experimentId }) => change("retry", experimentId)),
    pauseExperiment: answer(({ experimentId }) => change("pause", experimentId)),
    resumeExperiment: answer(({ experimentId }) => change("resume", experimentId)),
    listEvents: answer(({ experimentId, afterSequence }: ListEventsRequest) => ({
      events: scheduler
        .experiment(experimentId)
        .timeline.filter(({ sequence }) => sequence > afterSequence)
        .map(toWireEvent),
    })),
    drainWorker: answer(async ({ worker }: DrainWorkerRequest) => {
      const { id } = (await awaitWorker(worker, options)).facts;
      scheduler.dispatch({ type: "drain-worker", worker: id });
      await store.flush();
      return toWireWorker(findWorker(scheduler.members(), id), clock.monotonicMs());
    }),
    listWorkers: answer(() => ({
      workers: scheduler.members().map((member) => toWireWorker(member, clock.monotonicMs())),
    })),
    watchExperiment: watchExperiment(options),
    readLogs: readLogs(options),
  };
}

/**
 * A worker that is not there right after a takeover may come back any moment.
 *
 * @throws {FleetError} as {@link findWorker}
 */
async function awaitWorker(
  text: string,
  { scheduler, isGathering }: OperatorServiceOptions,
): Promise<Member> {
  for (;;) {
    const mayCome = isGathering();
    try {
      return findWorker(scheduler.members(), text);
    } catch (thrown) {
      if (FleetError.from(thrown).code !== "NOT_FOUND" || !mayCome) throw thrown;
    }
    await delay(GATHERING_POLL_MS);
  }
}

function unary<Request, Response>(
  handle: (request: Request) => Response | Promise<Response>,
  log: Log,
): handleUnaryCall<Request, Response> {
  return (call: ServerUnaryCall<Request, Response>, callback: sendUnaryData<Response>) => {
    const work = async (): Promise<Response> => await handle(call.request);
    work().then(
      (response) => callback(null, response),
      (thrown) => {
        const error = FleetError.from(thrown);
        if (error.code === "UNEXPECTED") log.error({ event: "call failed", err: thrown });
        callback(toServiceError(error));
      },
    );
  };
}
