/**
 * The client side of OperatorService: promises, deadlines, and errors of our own.
 *
 * Of several coordinators one leads. Whoever does not answer, or says that another one leads, is
 * passed over for the next; a takeover is waited for.
 */

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { type ClientReadableStream, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { FleetError } from "../../proto/errors.ts";
import {
  type Experiment,
  type ExperimentUpdate,
  type LogLines,
  OperatorServiceClient,
  type ReadLogsRequest,
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

/** Before the next coordinator is asked. */
const NEXT_PAUSE_MS = 100;
/** With coordinators of which none leads; a takeover takes a few seconds. */
const WATCH_PATIENCE_MS = 30_000;

type Callback<Response> = (error: ServiceError | null, response: Response) => void;
type CallTail<Response> = [Metadata, { deadline: number }, Callback<Response>];

export class OperatorClient {
  readonly #addresses: readonly string[];
  readonly #transport: Transport;
  readonly #joinToken: string;
  readonly #clients: readonly OperatorServiceClient[];
  /** Index of the coordinator that is called. */
  #at = 0;

  /**
   * @param addresses with commas between them
   * @param joinToken empty when the cluster has none
   * @throws {FleetError} USAGE for an address that is not HOST:PORT
   */
  constructor(addresses: string, transport: Transport, joinToken = "") {
    this.#addresses = addresses.split(",");
    for (const address of this.#addresses) {
      if (/^[^\s/]+:\d{1,5}$/.test(address)) continue;
      throw new FleetError("USAGE", `the coordinator's address ${address} is not HOST:PORT`);
    }
    this.#transport = transport;
    this.#joinToken = joinToken;
    const options = { ...CLIENT_OPTIONS, ...transport.clientOptions };
    this.#clients = this.#addresses.map(
      (address) => new OperatorServiceClient(address, transport.clientCredentials, options),
    );
  }

  get #address(): string {
    return this.#addresses[this.#at] ?? "";
  }

  get #client(): OperatorServiceClient {
    const client = this.#clients[this.#at];
    assert.ok(client, "there is an address for each client");
    return client;
  }

  /**
   * Gives the new experiment's id.
   *
   * @param requestId of a request that may have been made before
   */
  async submit(
    request: Omit<SubmitRequest, "requestId">,
    requestId: string = randomUUID(),
  ): Promise<string> {
    const response = await this.#call(
      (...tail: CallTail<{ experimentId: string }>) =>
        this.#client.submit({ ...request, requestId }, ...tail),
      { isRepeatable: true },
    );
    return response.experimentId;
  }

  async list(): Promise<readonly Experiment[]> {
    const response = await this.#read((...tail: CallTail<{ experiments: Experiment[] }>) =>
      this.#client.listExperiments({}, ...tail),
    );
    return response.experiments;
  }

  get(experimentId: string): Promise<Experiment> {
    return this.#read((...tail) => this.#client.getExperiment({ experimentId }, ...tail));
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
    const response = await this.#read((...tail: CallTail<{ events: TimelineEvent[] }>) =>
      this.#client.listEvents({ experimentId, afterSequence }, ...tail),
    );
    return response.events;
  }

  /** Takes the worker with this id, beginning of an id, or name out of the fleet. */
  drain(worker: string): Promise<WorkerInfo> {
    return this.#call((...tail) => this.#client.drainWorker({ worker }, ...tail));
  }

  async workers(): Promise<readonly WorkerInfo[]> {
    const response = await this.#read((...tail: CallTail<{ workers: WorkerInfo[] }>) =>
      this.#client.listWorkers({}, ...tail),
    );
    return response.workers;
  }

  /** The experiment's state now and after each change, until it has ended. */
  async *watch(experimentId: string): AsyncGenerator<Experiment, void, undefined> {
    const open = (client: OperatorServiceClient) =>
      client.watchExperiment({ experimentId }, this.#metadata());
    for await (const { experiment } of this.#stream<ExperimentUpdate>(open)) {
      if (experiment) yield experiment;
    }
  }

  /**
   * Lines of an experiment's log, and with `follow` those to come until it has ended. The first
   * message may have none. When another coordinator takes over, all are sent once more.
   */
  logs(request: ReadLogsRequest): AsyncGenerator<LogLines, void, undefined> {
    return this.#stream<LogLines>((client) => client.readLogs(request, this.#metadata()));
  }

  /** What a call sends, and when another coordinator takes over, what the same call there does. */
  async *#stream<Message>(
    open: (client: OperatorServiceClient) => ClientReadableStream<Message>,
  ): AsyncGenerator<Message, void, undefined> {
    let heardMs = performance.now();
    for (;;) {
      let hasHeard = false;
      try {
        for await (const message of this.#streamOnce(open)) {
          hasHeard = true;
          yield message;
        }
        return;
      } catch (thrown) {
        const error = FleetError.from(thrown);
        if (hasHeard) heardMs = performance.now();
        const isLate = performance.now() - heardMs >= WATCH_PATIENCE_MS;
        if (isLate || !this.#isElsewhere(error)) throw error;
        await this.#askAnother();
      }
    }
  }

  async *#streamOnce<Message>(
    open: (client: OperatorServiceClient) => ClientReadableStream<Message>,
  ): AsyncGenerator<Message, void, undefined> {
    const stream = open(this.#client);
    try {
      yield* stream as AsyncIterable<Message>;
    } catch (thrown) {
      throw this.#explain(thrown);
    } finally {
      stream.cancel();
    }
  }

  close(): void {
    for (const client of this.#clients) client.close();
  }

  /** A call that changes nothing, and may be made again whatever has become of it. */
  async #read<Response>(start: (...tail: CallTail<Response>) => unknown): Promise<Response> {
    return await this.#call(start, { isRepeatable: true });
  }

  async #call<Response>(
    start: (...tail: CallTail<Response>) => unknown,
    { isRepeatable = false } = {},
  ): Promise<Response> {
    const patienceEndsMs = performance.now() + CALL_TIMEOUT_MS;
    for (;;) {
      try {
        return await this.#callOnce(start);
      } catch (thrown) {
        const error = FleetError.from(thrown);
        // What may have changed something is not to be done twice.
        const isUnsure = !isRepeatable && error.detail["mayHaveArrived"] === true;
        const isLate = performance.now() >= patienceEndsMs;
        if (isLate || isUnsure || !this.#isElsewhere(error)) throw error;
        await this.#askAnother();
      }
    }
  }

  /** Whether another coordinator may answer. */
  #isElsewhere({ code }: FleetError): boolean {
    const isGone = code === "COORDINATOR_UNREACHABLE" || code === "LEADERSHIP_LOST";
    return isGone && this.#addresses.length > 1;
  }

  async #askAnother(): Promise<void> {
    this.#at = (this.#at + 1) % this.#addresses.length;
    await new Promise((resolve) => setTimeout(resolve, NEXT_PAUSE_MS));
  }

  async #callOnce<Response>(start: (...tail: CallTail<Response>) => unknown): Promise<Response> {
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
