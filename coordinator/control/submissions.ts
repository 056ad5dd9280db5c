/** Requests to queue an experiment: each adds it once, however often it is made. */

import { randomBytes } from "node:crypto";
import { FleetError } from "../../proto/errors.ts";
import type { SubmitRequest } from "../../proto/gen/coordinator.ts";
import { parseRecipe, type Recipe } from "../../proto/recipe.ts";
import type { Experiment } from "../experiment/experiment.ts";
import { toStagePlans } from "../experiment/stage-plans.ts";
import { startTimeline } from "../experiment/timeline.ts";
import type { Clock, Scheduler } from "../scheduling/scheduler.ts";
import type { Store } from "../store/store.ts";
import { RECIPE_LENGTH_MAX } from "./control-limits.ts";

/** Priorities lie within [-PRIORITY_MAX, PRIORITY_MAX]. */
const PRIORITY_MAX = 1_000;
const NAME_LENGTH_MAX = 100;
const REQUEST_ID_LENGTH_MAX = 100;

export interface SubmissionOptions {
  readonly scheduler: Scheduler;
  readonly store: Pick<Store, "add">;
  readonly clock: Clock;
}

export class Submissions {
  readonly #options: SubmissionOptions;
  /** Ids of experiments that are being stored, by request. */
  readonly #pending = new Map<string, Promise<string>>();

  constructor(options: SubmissionOptions) {
    this.#options = options;
  }

  /**
   * Gives the id of the experiment, which is durable then.
   *
   * @throws {FleetError} RECIPE_INVALID, USAGE, REDIS_UNREACHABLE, LEADERSHIP_LOST
   */
  async take(request: SubmitRequest): Promise<string> {
    const { requestId } = request;
    if (requestId === "") return await this.#add(request);
    const known = this.#options.scheduler.experiments().find((one) => one.requestId === requestId);
    if (known) return known.id;
    const pending = this.#pending.get(requestId) ?? this.#add(request);
    this.#pending.set(requestId, pending);
    try {
      return await pending;
    } finally {
      this.#pending.delete(requestId);
    }
  }

  async #add(request: SubmitRequest): Promise<string> {
    const { scheduler, store, clock } = this.#options;
    const { experiment, recipeJson } = toExperiment(request, clock.unixMs());
    await store.add(experiment, recipeJson);
    scheduler.dispatch({ type: "submitted", experiment, recipeJson });
    return experiment.id;
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
  if (request.requestId.length > REQUEST_ID_LENGTH_MAX) {
    throw new FleetError("USAGE", `request_id has more than ${REQUEST_ID_LENGTH_MAX} characters`);
  }
  const stages = toStagePlans(recipe);
  const experiment: Experiment = {
    id: newId(recipe.name),
    ...(request.requestId === "" ? {} : { requestId: request.requestId }),
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
    curves: {},
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
