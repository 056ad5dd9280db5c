/** The client side of OperatorService: promises, deadlines, and errors of our own. */

import { Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { FleetError } from "../../proto/errors.ts";
import {
  type Experiment,
  type ExperimentUpdate,
  OperatorServiceClient,
  type SubmitRequest,
  type TimelineEvent,
  type WorkerInfo,
} from "../../proto/gen/coordinator.ts";
import { fromServiceError } from "../../proto/grpc-errors.ts";
import {
  CALL_TIMEOUT_MS,
  CLIENT_OPTIONS,
  JOIN_TOKEN_METADATA_KEY,
  VERSION_METADATA_KEY,
  VERSION_METADATA_VALUE,
} from "../../proto/limits.ts";
import type { Transport } from "../../proto/transport.ts";

type Callback<Response> = (error: ServiceError | null, response: Response) => void;
type CallTail<Response> = [Metadata, { deadline: number }, Callback<Response>];

export class OperatorClient {
  readonly #address: string;
  readonly #transport: Transport;
  readonly #joinToken: string;
  readonly #client: OperatorServiceClient;

  /**
   * @param joinToken empty when the cluster has none
   * @throws {FleetError} USAGE for an address that is not HOST:PORT
   */
  constructor(address: string, transport: Transport, joinToken = "") {
    if (!/^[^\s/]+:\d{1,5}$/.test(address)) {
      throw new FleetError("USAGE", `the coordinator's address ${address} is not HOST:PORT`);
    }
    this.#address = address;
    this.#transport = transport;
    this.#joinToken = joinToken;
    this.#client = new OperatorServiceClient(address, transport.clientCredentials, {
      ...CLIENT_OPTIONS,
      ...transport.clientOptions,
    });
  }

  /** Gives the new experiment's id. */
  async submit(request: SubmitRequest): Promise<string> {
    const response = await this.#call((...tail: CallTail<{ experimentId: string }>) =>
      this.#client.submit(request, ...tail),
    );
    return response.experimentId;
  }

  async list(): Promise<readonly Experiment[]> {
    const response = await this.#call((...tail: CallTail<{ experiments: Experiment[] }>) =>
      this.#client.listExperiments({}, ...tail),
    );
    return response.experiments;
  }

  get(experimentId: string): Promise<Experiment> {
    return this.#call((...tail) => this.#client.getExperiment({ experimentId }, ...tail));
  }

  cancel(experimentId: string): Promise<Experiment> {
    return this.#call((...tail) => this.#client.cancelExperiment({ experimentId }, ...tail));
  }

  retry(experimentId: string): Promise<Experiment> {
    return this.#call((...tail) => this.#client.retryExperiment({ experimentId }, ...tail));
  }

  pause(experimentId: string): Promise<Experiment> {
    return this.#call((...tail) => this.#client.pauseExperiment({ experimentId }, ...tail));
  }

  resume(experimentId: string): Promise<Experiment> {
    return this.#call((...tail) => this.#client.resumeExperiment({ experimentId }, ...tail));
  }

  /** What has happened to an experiment, after the event number `afterSequence`. */
  async events(experimentId: string, afterSequence: number): Promise<readonly TimelineEvent[]> {
    const response = await this.#call((...tail: CallTail<{ events: TimelineEvent[] }>) =>
      this.#client.listEvents({ experimentId, afterSequence }, ...tail),
    );
    return response.events;
  }

  /** Takes the worker with this id, beginning of an id, or name out of the fleet. */
  drain(worker: string): Promise<WorkerInfo> {
    return this.#call((...tail) => this.#client.drainWorker({ worker }, ...tail));
  }

  async workers(): Promise<readonly WorkerInfo[]> {
    const response = await this.#call((...tail: CallTail<{ workers: WorkerInfo[] }>) =>
      this.#client.listWorkers({}, ...tail),
    );
    return response.workers;
  }

  /** The experiment's state now and after each change, until it has ended. */
  async *watch(experimentId: string): AsyncGenerator<Experiment, void, undefined> {
    const stream = this.#client.watchExperiment({ experimentId }, this.#metadata());
    try {
      for await (const { experiment } of stream as AsyncIterable<ExperimentUpdate>) {
        if (experiment) yield experiment;
      }
    } catch (thrown) {
      throw this.#explain(thrown);
    } finally {
      stream.cancel();
    }
  }

  close(): void {
    this.#client.close();
  }

  async #call<Response>(start: (...tail: CallTail<Response>) => unknown): Promise<Response> {
    return await new Promise((resolve, reject) => {
      const deadline = Date.now() + CALL_TIMEOUT_MS;
      start(this.#metadata(), { deadline }, (error, response) => {
        if (error) reject(this.#explain(error));
        else resolve(response);
      });
    });
  }

  #explain(thrown: unknown): FleetError {
    const isStatus = thrown instanceof Error && "code" in thrown && Number(thrown.code) in status;
    return isStatus
      ? fromServiceError(thrown as ServiceError, this.#address, this.#transport)
      : FleetError.from(thrown);
  }

  #metadata(): Metadata {
    const metadata = new Metadata();
    metadata.set(VERSION_METADATA_KEY, VERSION_METADATA_VALUE);
    if (this.#joinToken !== "") {
      metadata.set(JOIN_TOKEN_METADATA_KEY, Buffer.from(this.#joinToken));
    }
    return metadata;
  }
}
