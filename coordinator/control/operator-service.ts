/** OperatorService: what people and scripts ask of the coordinator. */

import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { handleUnaryCall, ServerUnaryCall, sendUnaryData } from "@grpc/grpc-js";
import { FleetError } from "../../proto/errors.ts";
import type {
  DrainWorkerRequest,
  ListEventsRequest,
  OperatorServiceServer,
  SubmitRequest,
  Experiment as WireExperiment,
} from "../../proto/gen/coordinator.ts";
import { toServiceError } from "../../proto/grpc-errors.ts";
import type { Log } from "../../proto/log.ts";
import { parseRecipe, type Recipe } from "../../proto/recipe.ts";
import type { Experiment, OperatorVerb } from "../experiment/experiment.ts";
import { toStagePlans } from "../experiment/stage-plans.ts";
import { startTimeline } from "../experiment/timeline.ts";
import type { Member } from "../member/member.ts";
import type { Clock } from "../scheduling/scheduler.ts";
import type { Store } from "../store/store.ts";
import { RECIPE_LENGTH_MAX } from "./control-limits.ts";
import {
  toWireEvent,
  toWireExperiment,
  toWireStragglers,
  toWireWorker,
} from "./experiment-message.ts";
import { findWorker } from "./find-worker.ts";
import { type WatchOptions, watchExperiment } from "./watch-experiment.ts";

/** Priorities lie within [-PRIORITY_MAX, PRIORITY_MAX]. */
const PRIORITY_MAX = 1_000;
const NAME_LENGTH_MAX = 100;
const GATHERING_POLL_MS = 100;

export interface OperatorServiceOptions extends WatchOptions {
  readonly store: Pick<Store, "add" | "flush">;
  readonly clock: Clock;
  readonly log: Log;
  /** Whether workers of an earlier coordinator may still be on their way to this one. */
  readonly isGathering: () => boolean;
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
      const { id } = (await awaitWorker(worker, options)).facts;
      scheduler.dispatch({ type: "drain-worker", worker: id });
      await store.flush();
      return toWireWorker(findWorker(scheduler.members(), id), clock.monotonicMs());
    }),
    listWorkers: answer(() => ({
      workers: scheduler.members().map((member) => toWireWorker(member, clock.monotonicMs())),
    })),
    watchExperiment: watchExperiment(options),
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
  if (json.length > RECIPE_LENGTH_MAX) {
    throw new FleetError("USAGE", `the recipe has more than ${RECIPE_LENGTH_MAX} characters`);
  }
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
