/** The worker Jobs at the API server: listed, created and deleted, one request after the other. */

import {
  BatchV1Api,
  createConfiguration,
  type Middleware,
  ServerConfiguration,
  type V1Job,
} from "@kubernetes/client-node";
import { ApiProblem } from "./api-problem.ts";
import type { Cluster } from "./open-cluster.ts";

const REQUEST_TIMEOUT_MS = 10_000;
const PAGE_LENGTH = 200;

export class JobsApi {
  /** For people. */
  readonly server: string;
  readonly namespace: string;
  readonly #api: BatchV1Api;
  /** Ends the request under way. */
  #request = new AbortController();
  #isClosed = false;

  constructor({ config, namespace }: Cluster) {
    this.server = config.getCurrentCluster()?.server ?? "";
    this.namespace = namespace;
    const withDeadline: Middleware = {
      pre: async (context) => {
        context.setSignal(this.#request.signal);
        return context;
      },
      post: async (context) => context,
    };
    this.#api = new BatchV1Api(
      createConfiguration({
        baseServer: new ServerConfiguration(this.server, {}),
        authMethods: { default: config },
        promiseMiddleware: [withDeadline],
      }),
    );
  }

  /** @throws {ApiProblem} as all of these */
  async list(labelSelector: string): Promise<readonly V1Job[]> {
    const { namespace } = this;
    const jobs: V1Job[] = [];
    let from: string | undefined;
    do {
      const page = { namespace, labelSelector, limit: PAGE_LENGTH };
      const rest = from === undefined ? {} : { _continue: from };
      const { items, metadata } = await this.#ask("list Jobs", () =>
        this.#api.listNamespacedJob({ ...page, ...rest }),
      );
      jobs.push(...items);
      from = metadata?._continue || undefined;
    } while (from !== undefined);
    return jobs;
  }

  /** @returns whether it was created; false when there is one of its name */
  async create(body: V1Job): Promise<boolean> {
    const { namespace } = this;
    const created = this.#ask(`create Job ${body.metadata?.name}`, () =>
      this.#api.createNamespacedJob({ namespace, body }),
    );
    return await created.then(() => true, unless([409], false));
  }

  /** Its pods get SIGTERM. One that is gone, or another of its name, is left alone. */
  async remove({ name, uid }: { readonly name: string; readonly uid: string }): Promise<void> {
    const { namespace } = this;
    const body = { propagationPolicy: "Background", preconditions: { uid } };
    const removed = this.#ask(`delete Job ${name}`, () =>
      this.#api.deleteNamespacedJob({ namespace, name, body }),
    );
    await removed.then(() => {}, unless([404, 409], undefined));
  }

  /** Gives up what is under way. */
  close(): void {
    this.#isClosed = true;
    this.#request.abort();
  }

  async #ask<T>(what: string, send: () => Promise<T>): Promise<T> {
    const { server } = this;
    if (this.#isClosed) throw new ApiProblem(`did not ${what}: the coordinator is stopping`);
    const request = new AbortController();
    this.#request = request;
    const deadline = setTimeout(() => request.abort(), REQUEST_TIMEOUT_MS);
    try {
      return await send();
    } catch (thrown) {
      const isOverdue = request.signal.aborted && !this.#isClosed;
      const cause = isOverdue ? `no answer in ${REQUEST_TIMEOUT_MS / 1_000} s` : thrown;
      throw ApiProblem.of(cause, { what, server });
    } finally {
      clearTimeout(deadline);
    }
  }
}

/** Takes an answer of these statuses for a result. */
function unless<T>(statuses: readonly number[], result: T): (thrown: unknown) => T {
  return (thrown) => {
    const status = thrown instanceof ApiProblem ? thrown.status : undefined;
    if (status !== undefined && statuses.includes(status)) return result;
    throw thrown;
  };
}
