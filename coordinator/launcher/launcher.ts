/**
 * Keeps the worker Jobs of a Kubernetes cluster as the experiments want them. It looks at both,
 * and does what plan-launch.ts says; it remembers nothing that is not at the API server, so that a
 * successor goes on where it was. Whatever goes wrong there is logged, told by a metric, and tried
 * again: gangs at work never depend on it.
 *
 * Only the leader changes anything. One that was replaced without knowing finds that out before it
 * acts: Redis has to confirm that it leads, and a Job of a higher epoch shows that it does not.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { FleetError } from "../../proto/errors.ts";
import type { Log } from "../../proto/log.ts";
import { parseRecipe } from "../../proto/recipe.ts";
import type { JobTemplate } from "../kubernetes/merge-template.ts";
import type { Device } from "../kubernetes/object-names.ts";
import { renderWorkerJob } from "../kubernetes/worker-job.ts";
import type { Scheduler } from "../scheduling/scheduler.ts";
import type { Leadership } from "../store/leadership.ts";
import { ApiProblem } from "./api-problem.ts";
import { JobsApi } from "./jobs-api.ts";
import type { LaunchHints } from "./launch-hints.ts";
import { openCluster } from "./open-cluster.ts";
import { jobName, jobSelector, markJob, type OwnJob, toOwnJob } from "./own-job.ts";
import { type LaunchAction, type LaunchPlan, needsOf, planLaunch } from "./plan-launch.ts";

/** How often experiments are looked at, and how often the API server is asked all the same. */
const LOOK_MS = 250;
const LIST_MS = 3_000;
const RETRY_FIRST_MS = 1_000;
const RETRY_MAX_MS = 30_000;
const RETRY_AFTER_MAX_MS = 60_000;

export interface LauncherOptions {
  /** That of the kubeconfig's context, or of the own pod, when absent. */
  readonly namespace?: string;
  /** Of the workers; that of their device and of this version when absent. */
  readonly image?: string;
  readonly device: Device;
  readonly template?: JobTemplate;
  /** As the coordinator's own. */
  readonly security: "tls" | "plaintext";
}

interface Fleet {
  readonly scheduler: Pick<Scheduler, "experiments" | "experiment" | "recipeJson" | "dispatch">;
  readonly leadership: Pick<Leadership, "epoch" | "mayAct" | "isConfirmed" | "meet">;
  /** Whether this coordinator leads, and knows all experiments. */
  readonly isLeading: () => boolean;
  /** Keeps it apart from other fleets in the namespace. */
  readonly instance: string;
  /** The launcher fills it. */
  readonly hints: LaunchHints;
  readonly log: Log;
}

export class Launcher {
  readonly #options: LauncherOptions;
  readonly #fleet: Fleet;
  readonly #jobs: JobsApi;
  readonly #closing = new AbortController();
  readonly #done: Promise<void>;
  #shortSinceMs: LaunchPlan["shortSinceMs"] = new Map();
  /** By experiment: why its recipe makes no Job. The others need not wait for it. */
  readonly #unfit = new Map<string, string>();
  #problem: string | undefined;

  /** @throws {FleetError} USAGE when there is no cluster */
  constructor(options: LauncherOptions, fleet: Fleet) {
    this.#options = options;
    this.#fleet = fleet;
    this.#jobs = new JobsApi(openCluster(options.namespace));
    const { server, namespace } = this.#jobs;
    fleet.log.info({ event: "launches workers on Kubernetes", server, namespace });
    this.#done = this.#run();
  }

  /** Why workers are not launched, for people; undefined while all is well. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Leaves the Jobs to the next coordinator. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#jobs.close();
    await this.#done;
  }

  async #run(): Promise<void> {
    let seen = "";
    let nextMs = 0;
    let retryMs = RETRY_FIRST_MS;
    while (!this.#closing.signal.aborted) {
      const wanted = JSON.stringify(needsOf(this.#fleet.scheduler.experiments()));
      const isDue = performance.now() >= nextMs || (wanted !== seen && this.#problem === undefined);
      if (isDue && this.#mayAct()) {
        seen = wanted;
        const problem = await this.#attempt();
        nextMs = performance.now() + (problem === undefined ? LIST_MS : pauseOf(problem, retryMs));
        retryMs = problem === undefined ? RETRY_FIRST_MS : Math.min(2 * retryMs, RETRY_MAX_MS);
        this.#tell(problem);
      }
      await sleep(LOOK_MS, undefined, { signal: this.#closing.signal }).catch(() => {
        // The loop sees that it is closing.
      });
    }
  }

  #mayAct(): boolean {
    return this.#fleet.isLeading() && this.#fleet.leadership.mayAct();
  }

  /** @returns what went wrong, if anything did */
  async #attempt(): Promise<unknown> {
    const { hints } = this.#fleet;
    try {
      const problem = await this.#round();
      hints.outage = undefined;
      return problem;
    } catch (thrown) {
      if (!this.#closing.signal.aborted) hints.outage = FleetError.from(thrown).message;
      return thrown;
    }
  }

  /** @returns the first problem that the others did not suffer from */
  async #round(): Promise<ApiProblem | undefined> {
    const { scheduler, leadership, instance, hints } = this.#fleet;
    const listed = await this.#jobs.list(jobSelector(instance));
    const jobs = listed.flatMap((job) => toOwnJob(job) ?? []);
    leadership.meet(Math.max(0, ...jobs.map(({ epoch }) => epoch)));

    const needs = needsOf(scheduler.experiments()).filter(
      ({ experimentId }) => !this.#unfit.has(experimentId),
    );
    const nowMs = performance.now();
    const plan = planLaunch(needs, jobs, { before: this.#shortSinceMs, nowMs });
    this.#shortSinceMs = plan.shortSinceMs;
    hints.clear();
    for (const [experiment, hint] of [...plan.hints, ...this.#unfit]) hints.set(experiment, hint);
    for (const job of jobs) this.#noteFailure(job);
    if (plan.actions.length === 0 || !(await leadership.isConfirmed())) return undefined;

    let problem: ApiProblem | undefined;
    for (const action of plan.actions) {
      try {
        await this.#act(action);
      } catch (thrown) {
        if (!(thrown instanceof ApiProblem && thrown.isOfRequest)) throw thrown;
        problem ??= thrown;
        if (action.type === "create") hints.set(action.experimentId, thrown.message);
      }
    }
    return problem;
  }

  async #act(action: LaunchAction): Promise<void> {
    const { log } = this.#fleet;
    if (action.type === "delete") {
      const { name, experimentId: experiment } = action.job;
      await this.#jobs.remove(action.job);
      log.info({ event: "job deleted", job: name, experiment, because: action.because });
      return;
    }
    const { experimentId, stage, attempt, workers } = action;
    const name = jobName(experimentId, stage, attempt);
    let body: ReturnType<typeof markJob>;
    try {
      body = this.#render(action, name);
    } catch (thrown) {
      this.#unfit.set(experimentId, FleetError.from(thrown).message);
      return;
    }
    if (!(await this.#jobs.create(body))) {
      const taken = `there is a Job ${name} already that this coordinator has not made; delete it`;
      throw new ApiProblem(taken, { status: 409 });
    }
    const message = `Job ${this.#jobs.namespace}/${name} was created for ${workers} workers`;
    this.#note(experimentId, "job-created", message);
  }

  #render(action: Extract<LaunchAction, { type: "create" }>, name: string) {
    const { scheduler, leadership, instance } = this.#fleet;
    const { image, device, template, security } = this.#options;
    const { experimentId, stage, attempt, workers } = action;
    const job = renderWorkerJob({
      ...{ name, namespace: this.#jobs.namespace, experimentId, stage, workers, device, security },
      recipe: parseRecipe(JSON.parse(scheduler.recipeJson(experimentId))),
      ...(image === undefined ? {} : { image }),
      ...(template === undefined ? {} : { template }),
    });
    return markJob(job, { experimentId, attempt, epoch: leadership.epoch, instance });
  }

  #noteFailure({ name, experimentId, failure }: OwnJob): void {
    if (failure === undefined) return;
    this.#note(experimentId, "job-failed", `Job ${name} has failed: ${failure}`);
  }

  /** Once, also if it is seen again after a restart. */
  #note(experimentId: string, occurrence: "job-created" | "job-failed", message: string): void {
    const { scheduler } = this.#fleet;
    const experiment = scheduler.experiments().find(({ id }) => id === experimentId);
    const isKnown = experiment?.timeline.some(
      (entry) => entry.type === occurrence && entry.message === message,
    );
    if (occurrence === "job-failed" && isKnown) return;
    scheduler.dispatch({ type: "noted", experimentId, occurrence, message });
  }

  #tell(problem: unknown): void {
    const message = problem instanceof Error ? problem.message : undefined;
    if (message === this.#problem || this.#closing.signal.aborted) return;
    this.#problem = message;
    const { log } = this.#fleet;
    if (message === undefined) log.info({ event: "workers are launched again" });
    else log.warn({ event: "workers are not launched", because: message });
  }
}

/** How long the API server is left alone after a problem. */
function pauseOf(problem: unknown, retryMs: number): number {
  const asked = problem instanceof ApiProblem ? (problem.retryAfterMs ?? 0) : 0;
  return Math.min(Math.max(asked, retryMs), RETRY_AFTER_MAX_MS);
}
