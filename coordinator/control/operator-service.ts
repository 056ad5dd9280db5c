/** OperatorService: what people and scripts ask of the coordinator. */

import { randomBytes } from "node:crypto";
import type {
  handleUnaryCall,
  Metadata,
  ServerUnaryCall,
  ServerWritableStream,
  sendUnaryData,
} from "@grpc/grpc-js";
import { FleetError } from "../../proto/errors.ts";
import type {
  DrainWorkerRequest,
  ExperimentUpdate,
  ListEventsRequest,
  OperatorServiceServer,
  SubmitRequest,
  WatchExperimentRequest,
  Experiment as WireExperiment,
} from "../../proto/gen/coordinator.ts";
import { toServiceError } from "../../proto/grpc-errors.ts";
import { VERSION_METADATA_KEY, VERSION_METADATA_VALUE } from "../../proto/limits.ts";
import type { Log } from "../../proto/log.ts";
import { parseRecipe, type Recipe } from "../../proto/recipe.ts";
import { type Experiment, isFinished, type OperatorVerb } from "../experiment/experiment.ts";
import { toStagePlans } from "../experiment/stage-plans.ts";
import { startTimeline } from "../experiment/timeline.ts";
import type { Clock, Scheduler } from "../scheduler.ts";
import type { Store } from "../store/store.ts";
import {
  toWireEvent,
  toWireExperiment,
  toWireStragglers,
  toWireWorker,
} from "./experiment-message.ts";
import { findWorker } from "./find-worker.ts";

/** Priorities lie within [-PRIORITY_MAX, PRIORITY_MAX]. */
const PRIORITY_MAX = 1_000;
const NAME_LENGTH_MAX = 100;

export interface OperatorServiceOptions {
  readonly scheduler: Scheduler;
  readonly store: Pick<Store, "add" | "flush">;
  readonly clock: Clock;
  readonly log: Log;
}

export function operatorService(options: OperatorServiceOptions): OperatorServiceServer {
  const { scheduler, store, clock, log } = options;
  const answer = <Request, Response>(
    handle: (request: Request) => Response | Promise<Response>,
  ): handleUnaryCall<Request, Response> => unary(handle, log);

  const show = (id: string): WireExperiment =>
    toWireExperiment(scheduler.experiment(id), {
      recipeJson: scheduler.recipeJson(id),
      withHistory: true,
      stragglers: toWireStragglers(scheduler, scheduler.experiment(id)),
    });
  const change = async (type: OperatorVerb, experimentId: string): Promise<WireExperiment> => {
    scheduler.dispatch({ type, experimentId });
    await store.flush();
    return show(experimentId);
  };

  return {
    submit: answer(async (request: SubmitRequest) => {
      const { experiment, recipeJson } = toExperiment(request, clock.unixMs());
      await store.add(experiment, recipeJson);
      scheduler.dispatch({ type: "submitted", experiment, recipeJson });
      return { experimentId: experiment.id };
    }),
    listExperiments: answer(() => ({
      experiments: scheduler.experiments().map((experiment) => {
        const stragglers = toWireStragglers(scheduler, experiment);
        return toWireExperiment(experiment, { recipeJson: "", withHistory: false, stragglers });
      }),
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
      const { id } = findWorker(scheduler.members(), worker).facts;
      scheduler.dispatch({ type: "drain-worker", worker: id });
      await store.flush();
      return toWireWorker(findWorker(scheduler.members(), id), clock.monotonicMs());
    }),
    listWorkers: answer(() => ({
      workers: scheduler.members().map((member) => toWireWorker(member, clock.monotonicMs())),
    })),
    watchExperiment: (call) => watch(call, scheduler),
  };
}

function unary<Request, Response>(
  handle: (request: Request) => Response | Promise<Response>,
  log: Log,
): handleUnaryCall<Request, Response> {
  return (call: ServerUnaryCall<Request, Response>, callback: sendUnaryData<Response>) => {
    const work = async (): Promise<Response> => {
      checkVersion(call.metadata);
      return await handle(call.request);
    };
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

type WatchCall = ServerWritableStream<WatchExperimentRequest, ExperimentUpdate>;

/**
 * Sends the state at once and after each change. A reader that is slower than the changes gets the
 * newest state when it is ready for one, not every state late.
 */
function watch(call: WatchCall, scheduler: Scheduler): void {
  const { experimentId } = call.request;
  let pending: Experiment | undefined;
  let isFull = false;

  const flush = (): void => {
    if (isFull || pending === undefined) return;
    const experiment = pending;
    pending = undefined;
    const recipeJson = scheduler.recipeJson(experimentId);
    const stragglers = toWireStragglers(scheduler, experiment);
    const message = toWireExperiment(experiment, { recipeJson, withHistory: false, stragglers });
    isFull = !call.write({ experiment: message });
    if (!isFinished(experiment)) return;
    unwatch();
    call.end();
  };
  const offer = (experiment: Experiment): void => {
    pending = experiment;
    flush();
  };

  let unwatch = (): void => {};
  call.on("drain", () => {
    isFull = false;
    flush();
  });
  call.on("cancelled", () => unwatch());
  call.on("close", () => unwatch());
  try {
    checkVersion(call.metadata);
    const present = scheduler.experiment(experimentId);
    unwatch = scheduler.watch(experimentId, offer);
    offer(present);
  } catch (thrown) {
    call.emit("error", toServiceError(FleetError.from(thrown)));
  }
}

/** @throws {FleetError} RECIPE_INVALID, USAGE */
function toExperiment(
  request: SubmitRequest,
  now: number,
): { readonly experiment: Experiment; readonly recipeJson: string } {
  const recipe = readRecipe(request.recipeJson);
  const { priority } = request;
  if (Math.abs(priority) > PRIORITY_MAX) {
    throw new FleetError(
      "USAGE",
      `priority ${priority} is not within ${-PRIORITY_MAX} and ${PRIORITY_MAX}`,
    );
  }
  if (request.name.length > NAME_LENGTH_MAX) {
    throw new FleetError("USAGE", `the name has more than ${NAME_LENGTH_MAX} characters`);
  }
  const stages = toStagePlans(recipe);
  const experiment: Experiment = {
    id: newId(recipe.name),
    name: request.name || recipe.name,
    recipeName: recipe.name,
    priority,
    stages,
    stageIndex: 0,
    generation: 0,
    lastGang: [],
    restarts: { failure: 0, preemption: 0, membership: 0 },
    maxRestarts: recipe.elastic.maxRestarts,
    fruitlessRestarts: 0,
    furthestStep: 0,
    lostSteps: 0,
    stragglerFactor: recipe.elastic.stragglerFactor,
    submittedUnixMs: now,
    results: {},
    timeline: startTimeline(stages[0]?.name ?? "pretrain", now),
    phase: { status: "waiting", reason: "waits for the queue to hand it over" },
  };
  return { experiment, recipeJson: JSON.stringify(recipe) };
}

function readRecipe(json: string): Recipe {
  let input: unknown;
  try {
    input = JSON.parse(json);
  } catch (cause) {
    throw new FleetError("RECIPE_INVALID", "recipe_json is not JSON", {}, cause);
  }
  return parseRecipe(input);
}

/** Short enough to type: the model of a SimCLR recipe, or another recipe's name, and a number. */
function newId(recipeName: string): string {
  const stem = recipeName.replace(/^simclr_/, "").split("_")[0] || "experiment";
  return `${stem.slice(0, 20)}-${randomBytes(3).toString("hex")}`;
}

/** @throws {FleetError} VERSION_MISMATCH */
function checkVersion(metadata: Metadata): void {
  const [version = VERSION_METADATA_VALUE] = metadata.get(VERSION_METADATA_KEY).map(String);
  if (version === VERSION_METADATA_VALUE) return;
  throw new FleetError(
    "VERSION_MISMATCH",
    `the caller speaks protocol version ${version}, this coordinator ${VERSION_METADATA_VALUE}; ` +
      "install the same version of simclr-fleet on both sides",
  );
}
